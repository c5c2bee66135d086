"""Evaluate a model of any task, and publish the results."""

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
    """Let the model's task evaluate the model.

    Args:
        request: what to evaluate.
        job: gets the progress, in the phase "evaluating".

    Returns:
        The results, with the cases that failed.

    Raises:
        DataError: if there is no data set, it does not fit the model, or every case failed.
        ConfigError: if the task does not know an option, or works in one process only.
        OutputError: if the results cannot be written.
        Interrupted: if the job was cancelled.
    """
    task: Task = TASKS.get(request.model.spec.task)
    task.check_spread(request)
    return task.evaluate(request, job or Job())


def publish(evaluation: Evaluation, run_folder: Path, tracking_uri: str | None = None) -> None:
    """Note in the run folder where its evaluation is, and log the results to MLflow.

    If the folder cannot be written, or the store is gone or does not answer, there is only a
    warning, because the results are on disk.

    Args:
        evaluation: a finished evaluation.
        run_folder: the run folder of the model; its ``mlflow.json`` names MLflow's run and store.
        tracking_uri: URI of the same store with a password, which ``mlflow.json`` does not hold;
            the environment may name it too.
    """
    tree = evaluation.tree
    word = tree["split"]["name"]
    try:
        remember_evaluation(run_folder, word, evaluation.out)
    except OutputError as error:
        logger.warning("The place of the evaluation is not noted in the run folder: %s", error)
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
    except Exception as error:  # no error of a store may spoil a finished evaluation
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
