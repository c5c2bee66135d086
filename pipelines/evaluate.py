"""Measure a model of any task, and publish the results."""

from __future__ import annotations

import logging
import math
from pathlib import Path

from medseg_nca.errors import OutputError
from medseg_nca.job import Job
from medseg_nca.tasks import TASKS, Task
from medseg_nca.tasks.base import EvaluateRequest, Evaluation
from medseg_nca.tracking.evaluation import remember_evaluation
from medseg_nca.tracking.run import RunTracker, read_link, store_with_credentials
from medseg_nca.tracking.store import connect

logger = logging.getLogger(__name__)


def run(request: EvaluateRequest, job: Job | None = None) -> Evaluation:
    """Evaluate a model as its task does it.

    Args:
        request: what is to be done.
        job: told how far it is, under the phase "evaluating".

    Returns:
        The results, with the cases that failed.

    Raises:
        DataError: if there is no data set, it does not fit the model, or every case failed.
        ConfigError: if the task does not know an option.
        OutputError: if the results cannot be written.
        Interrupted: if the job was cancelled.
    """
    task: Task = TASKS.get(request.model.spec.task)
    return task.evaluate(request, job or Job())


def publish(evaluation: Evaluation, run_folder: Path, tracking_uri: str | None = None) -> None:
    """Note in the run folder where its evaluation lies, and log it to the run in MLflow.

    A folder that cannot be written, and a store that is gone or does not answer, are warnings: the
    results are on disk.

    Args:
        evaluation: finished.
        run_folder: its ``mlflow.json`` names the run and its store.
        tracking_uri: the same store with a password, which the link does not hold; the environment
            may name it too.
    """
    tree = evaluation.tree
    word = tree["split"]["name"]
    try:
        remember_evaluation(run_folder, word, evaluation.out)
    except OutputError as error:
        logger.warning("Where the evaluation lies is not noted in the run folder: %s", error)
    link = read_link(run_folder)
    if link is None:
        return
    task: Task = TASKS.get(tree["task"])
    try:
        uri = store_with_credentials(run_folder, tracking_uri)
        if uri is None:
            logger.warning("The evaluation is not logged to MLflow: its store is gone.")
            return
        tracker = RunTracker(connect(uri), link["run_id"], run_folder)
    except Exception as error:  # whatever a store throws: the evaluation is done
        logger.warning("The evaluation is not logged to MLflow: %s", error)
        return
    numbers = task.published(tree)
    tracker.log_metrics(
        {
            f"{word}_{name}": value
            for name, value in numbers.items()
            if value is not None and math.isfinite(value)
        }
    )
    for name in ("metrics.json", "metrics.csv", "report.html", "figures"):
        tracker.log_artifact(evaluation.out / name, f"evaluation_{word}")
