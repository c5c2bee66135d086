"""Check whether a training learns: compare its loss and score with those of a constant answer."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from lightning_fabric import Fabric

from medseg_nca.config.training import TrainingSettings
from medseg_nca.training.batches import batches
from medseg_nca.training.learner import ConstantAnswer, Learner
from medseg_nca.training.state import Counters

# The model must be better than the constant answer by these shares of the constant answer's value.
# The constant answer's loss is measured on a few batches only, and the mean loss of a training
# varies by some percent.
LOSS_MARGIN = 0.1
SCORE_MARGIN = 0.05
# Iterations after which the mean loss is meaningful, and after which a warning may be given.
SETTLED = 50
PATIENCE = 500
# Batches that a constant answer is measured on.
MEASURED = 8

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Verdict:
    """Whether a training learned anything.

    Attributes:
        learned: whether the model is better than a constant answer; None if it is not known.
        reasons: if the model is not better, why, in whole sentences.
    """

    learned: bool | None
    reasons: tuple[str, ...] = ()


def judge(constant: ConstantAnswer, loss: float, score: float) -> Verdict:
    """Compare a training with the best constant answer.

    Args:
        constant: what the best constant answer reaches.
        loss: the lowest mean loss of the training.
        score: the score of the best validation; NaN if there was nothing to measure.
    """
    reasons = []
    by_loss = math.isfinite(constant.loss) and math.isfinite(loss)
    by_score = math.isfinite(constant.score) and not math.isnan(score)
    if by_loss and loss > constant.loss - LOSS_MARGIN * abs(constant.loss):
        reasons.append(
            f"The mean loss came down to {loss:.4g} only, and a constant answer, the same for "
            f"every input, has {constant.loss:.4g}."
        )
    if by_score and score <= constant.score + SCORE_MARGIN * abs(constant.score):
        reasons.append(
            f"The best validation score is {score:.4g}, and a constant answer, the same for every "
            f"input, has {constant.score:.4g}."
        )
    return Verdict(None if not (by_loss or by_score) else not reasons, tuple(reasons))


class LearningWatch:
    """Follows one training, and warns if it learns nothing.

    Args:
        learner: what is learned.
        fabric: device of the training.
        settings: settings of the training.
    """

    def __init__(self, learner: Learner, fabric: Fabric, settings: TrainingSettings) -> None:
        self.learner, self.fabric, self.settings = learner, fabric, settings
        self.warned = False

    @cached_property
    def constant(self) -> ConstantAnswer:
        """Return what the best constant answer reaches, on the first batches of the training."""
        source = batches(self.learner, first=0, last=MEASURED, batch_size=self.settings.batch_size)
        some = [self.fabric.to_device(batch) for batch in source]
        return self.learner.constant_answer(some, self.fabric.device)

    def verdict(self, counters: Counters) -> Verdict:
        """Return whether the training has learned anything up to now."""
        # A training that ends within the first steps is judged by the mean loss that it has.
        settled = math.isfinite(counters.lowest_loss)
        loss = counters.lowest_loss if settled else counters.mean_loss
        return judge(self.constant, loss, counters.best_score)

    def warn(self, counters: Counters) -> None:
        """Warn if nothing is learned: once in a training, and early."""
        if self.warned or counters.iteration < PATIENCE:
            return
        verdict = self.verdict(counters)
        if verdict.learned is False:
            self.warned = True
            text = "After %d iterations nothing is learned. %s"
            logger.warning(text, counters.iteration, " ".join(verdict.reasons))


def too_short(counters: Counters, settings: TrainingSettings, reason: str) -> Iterator[str]:
    """Yield a remark on a training that ended before its first regular validation."""
    done, due = counters.iteration, settings.validate_every
    if due >= 1 and done < due:
        word = "its time was up" if reason == "time" else "that was all it was given"
        yield (
            f"The training ended after {done} iterations ({word}), before the first validation, "
            f"which was due at {due}; it was validated at its end only."
        )
