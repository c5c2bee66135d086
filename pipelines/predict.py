"""Predict inputs with a trained model of any task."""

from __future__ import annotations

from collections.abc import Sequence

from medseg_nca.job import Job
from medseg_nca.tasks import TASKS, Task
from medseg_nca.tasks.base import Predicted, PredictRequest


def run(request: PredictRequest, job: Job | None = None) -> Sequence[Predicted]:
    """Let the model's task write the answer to every input, and ``predictions.json``.

    Args:
        request: what to predict.
        job: gets the progress, in the phase "predicting".

    Raises:
        ConfigError: if the settings do not fit the model, or the task does not know an
            option or works in one process only.
        DataError: if there is nothing to predict.
        OutputError: if a result would overwrite an input, or cannot be written.
        Interrupted: if the job was cancelled.
        PartialFailure: after the last input, if some inputs failed; the answers to the others
            are written.
    """
    task: Task = TASKS.get(request.model.spec.task)
    task.check_spread(request)
    return task.predict(request, job or Job())
