"""Whether a training learned anything: its loss and score beside those of a constant answer."""

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

# Shares of the constant answer's own value by which the model must be better. Its loss is known
# from a few batches only, and the mean loss of a training wanders by some percent.
LOSS_MARGIN = 0.1
SCORE_MARGIN = 0.05
# Iterations after which a mean loss says something, and after which a warning is due.
SETTLED = 50
PATIENCE = 500
# Batches that a constant answer is measured on.
MEASURED = 8

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Verdict:
    """What became of a training.

    Attributes:
        learned: whether the model is better than a constant answer; None if nobody knows.
        reasons: whole sentences, where it is not.
    """

    learned: bool | None
    reasons: tuple[str, ...] = ()


def judge(constant: ConstantAnswer, loss: float, score: float) -> Verdict:
    """Compare a training with the best constant answer.

    Args:
        constant: what that answer reaches.
        loss: the lowest mean loss of the training.
        score: of the best validation; NaN if there was nothing to measure.
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
    """Follows one training.

    Args:
        learner: what is learned.
        fabric: the device.
        settings: of the training.
    """

    def __init__(self, learner: Learner, fabric: Fabric, settings: TrainingSettings) -> None:
        self.learner, self.fabric, self.settings = learner, fabric, settings
        self.warned = False

    @cached_property
    def constant(self) -> ConstantAnswer:
        """What the best constant answer reaches, on the first batches of the training."""
        source = batches(self.learner, first=0, last=MEASURED, batch_size=self.settings.batch_size)
        some = [self.fabric.to_device(batch) for batch in source]
        return self.learner.constant_answer(some, self.fabric.device)

    def verdict(self, counters: Counters) -> Verdict:
        """Whether the training has learned anything up to now."""
        # The mean of the first steps stands for itself in a training that ends with them.
        settled = math.isfinite(counters.lowest_loss)
        loss = counters.lowest_loss if settled else counters.mean_loss
        return judge(self.constant, loss, counters.best_score)

    def warn(self, counters: Counters) -> None:
        """Say once in a training, and early, that nothing is learned."""
        if self.warned or counters.iteration < PATIENCE:
            return
        verdict = self.verdict(counters)
        if verdict.learned is False:
            self.warned = True
            text = "After %d iterations nothing is learned. %s"
            logger.warning(text, counters.iteration, " ".join(verdict.reasons))


def too_short(counters: Counters, settings: TrainingSettings, reason: str) -> Iterator[str]:
    """Say so of a run that ended before it could be followed."""
    done, due = counters.iteration, settings.validate_every
    if due >= 1 and done < due:
        word = "its time was up" if reason == "time" else "that was all it was given"
        yield (
            f"The training ended after {done} iterations ({word}), before the first validation, "
            f"which was due at {due}; it was validated at its end only."
        )
