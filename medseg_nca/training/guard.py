"""The divergence guard: it notices when the loss of a training is far above its normal value."""

from __future__ import annotations

import math

from medseg_nca.config.training import GuardSettings

_MEMORY = 0.98
# Number of first steps whose losses are not judged, because they do not show what is normal.
_LEARNING = 50


class DivergenceGuard:
    """Compares each loss with the running mean of the losses before it."""

    def __init__(self, settings: GuardSettings) -> None:
        self.settings = settings
        self.mean = 0.0
        self.seen = 0
        self.rollbacks = 0

    @property
    def rate_factor(self) -> float:
        """The factor on the learning rate that follows from the roll-backs so far."""
        return self.settings.lr_factor**self.rollbacks

    @property
    def exhausted(self) -> bool:
        """Whether all roll-backs that the settings allow have been made."""
        return self.rollbacks >= self.settings.max_rollbacks

    def diverged(self, loss: float) -> bool:
        """Return whether a loss is NaN, infinite or far above normal; else add it to the mean."""
        if not math.isfinite(loss):
            return True
        # The lower bound keeps normal losses from looking large beside a mean near zero.
        limit = self.settings.factor * max(self.mean, 0.05)
        if self.seen >= _LEARNING and loss > limit:
            return True
        self.mean = loss if not self.seen else _MEMORY * self.mean + (1 - _MEMORY) * loss
        self.seen += 1
        return False

    def state_dict(self) -> dict[str, float]:
        """Return the state of the guard, for a checkpoint."""
        return {"mean": self.mean, "seen": self.seen, "rollbacks": self.rollbacks}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Restore a state that :meth:`state_dict` returned."""
        self.mean = float(state["mean"])
        self.seen = int(state["seen"])
        self.rollbacks = int(state["rollbacks"])
