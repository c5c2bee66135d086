"""Where a training stands, and how it ended."""

from __future__ import annotations

from dataclasses import dataclass

from medseg_nca.training.learner import ConstantAnswer


@dataclass
class Counters:
    """Where a training stands.

    ``mean_loss`` is the running mean of the loss, ``lowest_loss`` its lowest value once it says
    something. ``owes_validation`` is true while a validation runs: a training that was stopped in
    it begins with it when it goes on.
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
        iterations, seconds: how long it was; the seconds begin after the first iteration.
        best_score, best_iteration: of the validation whose weights are kept; NaN if there was
            nothing to measure.
        reason: of the end: "iterations", "time" or "patience".
        rollbacks: how often it diverged.
        lowest_loss: the lowest running mean of the loss; infinite after very few iterations.
        constant: what the best constant answer reaches.
        learned: whether the model is better than that; None if nobody knows.
        remarks: what is to be known of the end, in whole sentences.
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
