"""The counters of a training, and its result."""

from __future__ import annotations

from dataclasses import dataclass

from medseg_nca.training.learner import ConstantAnswer


@dataclass
class Counters:
    """The counters of a training, which its checkpoints keep.

    ``elapsed`` is in seconds. ``without_progress`` counts validations since the best one.
    ``mean_loss`` is the running mean of the loss, ``lowest_loss`` its lowest value after the first
    iterations. ``owes_validation`` is true while a validation runs; a training that was stopped
    during a validation repeats it when it goes on.
    """

    iteration: int = 0
    elapsed: float = 0.0
    best_score: float = float("-inf")
    best_iteration: int = 0
    without_progress: int = 0
    mean_loss: float = float("nan")
    lowest_loss: float = float("inf")
    owes_validation: bool = False


@dataclass(frozen=True)
class TrainingResult:
    """How a training ended.

    Attributes:
        iterations: number of iterations.
        seconds: duration, from the end of the first iteration.
        best_score: score of the validation whose weights are kept; NaN if there was nothing to
            measure.
        best_iteration: iteration of that validation.
        reason: why the training ended: "iterations", "time" or "patience".
        rollbacks: how often the training diverged and was brought back.
        lowest_loss: the lowest running mean of the loss; infinite after very few iterations.
        constant: what the best constant answer reaches.
        learned: whether the model is better than the constant answer; None if it is not known.
        remarks: whole sentences about the end of the training that a user should read.
    """

    iterations: int
    seconds: float
    best_score: float
    best_iteration: int
    reason: str
    rollbacks: int
    lowest_loss: float
    constant: ConstantAnswer
    learned: bool | None
    remarks: tuple[str, ...]
