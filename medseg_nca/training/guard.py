"""The divergence guard: notices a loss that is lost."""

from __future__ import annotations

import math

from medseg_nca.config.training import GuardSettings

_MEMORY = 0.98
# The loss of the first steps says little about what is normal.
_LEARNING = 50


class DivergenceGuard:
    """Compares each loss with the running mean of those before."""

    def __init__(self, settings: GuardSettings) -> None:
        self.settings = settings
        self.mean = 0.0
        self.seen = 0
        self.rollbacks = 0

    @property
    def rate_factor(self) -> float:
        """Factor on the learning rate after the roll-backs so far."""
        return self.settings.lr_factor**self.rollbacks

    @property
    def exhausted(self) -> bool:
        """True if another roll-back is not allowed."""
        return self.rollbacks >= self.settings.max_rollbacks

    def diverged(self, loss: float) -> bool:
        """Take in a loss; True if it is not finite, or far above what is normal."""
        if not math.isfinite(loss):
            return True
        # A mean near zero would make any loss look large.
        limit = self.settings.factor * max(self.mean, 0.05)
        if self.seen >= _LEARNING and loss > limit:
            return True
        self.mean = loss if not self.seen else _MEMORY * self.mean + (1 - _MEMORY) * loss
        self.seen += 1
        return False

    def state_dict(self) -> dict[str, float]:
        """What a checkpoint keeps."""
        return {"mean": self.mean, "seen": self.seen, "rollbacks": self.rollbacks}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Restore :meth:`state_dict`."""
        self.mean = float(state["mean"])
        self.seen = int(state["seen"])
        self.rollbacks = int(state["rollbacks"])
