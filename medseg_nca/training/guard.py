"""The divergence guard: it notices when the losses of a training stay far above normal."""

from __future__ import annotations

import logging
import math

from medseg_nca.config.training import GuardSettings
from medseg_nca.errors import DivergenceError

_MEMORY = 0.98
# Number of first steps whose losses are not judged, because they do not show what is normal.
_LEARNING = 50

logger = logging.getLogger(__name__)


class DivergedError(Exception):
    """The training diverged, and goes back to an earlier checkpoint."""


class DivergenceGuard:
    """Compares each loss with the running mean of the losses before it.

    One batch whose loss is far above normal is a hard one: after a roll-back it would come again.
    Only several in a row show that the weights have diverged.
    """

    def __init__(self, settings: GuardSettings) -> None:
        self.settings = settings
        self.mean = 0.0
        self.seen = 0
        self.in_a_row = 0
        self.rollbacks = 0

    @property
    def rate_factor(self) -> float:
        """The factor on the learning rate that follows from the roll-backs so far."""
        return self.settings.lr_factor**self.rollbacks

    @property
    def exhausted(self) -> bool:
        """Whether all roll-backs that the settings allow have been made."""
        return self.rollbacks >= self.settings.max_rollbacks

    @property
    def diverged(self) -> bool:
        """Whether so many batches in a row were unusual that it cannot be the batches."""
        return self.in_a_row >= self.settings.patience

    def unusual(self, loss: float) -> bool:
        """Return whether a loss is NaN, infinite or far above normal; else add it to the mean."""
        # The lower bound keeps normal losses from looking large beside a mean near zero.
        limit = self.settings.factor * max(self.mean, 0.05)
        if not math.isfinite(loss) or (self.seen >= _LEARNING and loss > limit):
            self.in_a_row += 1
            return True
        self.in_a_row = 0
        self.mean = loss if not self.seen else _MEMORY * self.mean + (1 - _MEMORY) * loss
        self.seen += 1
        return False

    def tell(self, loss: float, iteration: int, reason: str = "") -> None:
        """Log a batch that was unusual.

        Args:
            loss: its loss.
            iteration: when it came.
            reason: what is wrong, if it is not the loss.

        Raises:
            DivergedError: if so many came in a row that the training has diverged.
        """
        why = reason.rstrip(".") or f"the loss is {loss:.4g}, normal is {self.mean:.4g}"
        if self.diverged:
            raise DivergedError(why)
        logger.info("A hard batch at iteration %d: %s.", iteration, why)

    def check_end(self) -> None:
        """Refuse a training that ended without having learned from a batch.

        Raises:
            DivergenceError: if no loss was finite.
        """
        if not self.seen:
            raise DivergenceError(
                "The training ended, and no batch had a finite loss.",
                hint="Look at the data set: medseg-nca data check DIR. Or lower training.lr.",
            )

    def state_dict(self) -> dict[str, float]:
        """Return the state of the guard, for a checkpoint."""
        return {
            "mean": self.mean,
            "seen": self.seen,
            "rollbacks": self.rollbacks,
            "in_a_row": self.in_a_row,
        }

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Restore a state that :meth:`state_dict` returned."""
        self.mean = float(state["mean"])
        self.seen = int(state["seen"])
        self.rollbacks = int(state["rollbacks"])
        self.in_a_row = int(state.get("in_a_row", 0))
