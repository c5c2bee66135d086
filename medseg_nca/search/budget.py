"""The budget of a trial: how long it trains, in iterations or in seconds; the same for all."""

from __future__ import annotations

import re
from dataclasses import dataclass

from medseg_nca.config import RunSettings
from medseg_nca.errors import ConfigError

_TEXT = re.compile(r"^([0-9]+(?:\.[0-9]+)?)\s*(it|iterations|s|seconds|min|minutes)?$")
# With a budget of time, the time ends a training and not the number of its iterations.
_ENDLESS = 10_000_000
# Parts of a trial after which it is validated and its state is saved.
_VALIDATE, _SAVE, _WARMUP = 0.1, 0.1, 0.1
HOW = "Write 500 (iterations), 90s or 2min."


@dataclass(frozen=True)
class Budget:
    """How long every trial trains: by one of the two.

    Attributes:
        iterations: number of iterations; None if the time decides.
        seconds: time in seconds; None if the iterations decide.
    """

    iterations: int | None = None
    seconds: float | None = None

    def __str__(self) -> str:
        if self.iterations is not None:
            return f"{self.iterations} iterations"
        return f"{self.seconds:g} seconds"

    def applied(self, settings: RunSettings) -> RunSettings:
        """Return settings of a training that takes this budget, and validates ten times in it."""
        values: dict[str, object] = {
            "training.iterations": self.iterations or _ENDLESS,
            "training.max_minutes": None if self.seconds is None else self.seconds / 60,
            "training.validate_every": _VALIDATE,
            "training.checkpoint_every": _SAVE,
        }
        if settings.training.warmup >= 1 or "training.warmup" in settings.undecided:
            values["training.warmup"] = _WARMUP
        return settings.with_values(values)


def parse_budget(text: str) -> Budget:
    """Read a budget: ``500`` or ``500it`` (iterations), ``90s``, ``2min``.

    Raises:
        ConfigError: if it is written otherwise, or is 0.
    """
    found = _TEXT.match(text.strip())
    number = float(found[1]) if found else 0.0
    unit = (found[2] or "it") if found else ""
    if not number or (unit.startswith("it") and not number.is_integer()):
        raise ConfigError(f"--budget {text}: is no number of iterations and no time.", hint=HOW)
    if unit.startswith("it"):
        return Budget(iterations=int(number))
    return Budget(seconds=number * (60 if unit.startswith("m") else 1))


def budget_of(settings: RunSettings) -> str:
    """Return, in words, how long a training with the settings takes."""
    training = settings.training
    minutes = training.max_minutes
    if "training.iterations" in settings.undecided:
        return "as the recipe decides" if minutes is None else f"{60 * minutes:g} seconds"
    if minutes is not None and training.iterations >= _ENDLESS:
        return f"{60 * minutes:g} seconds"
    limit = "" if minutes is None else f", at most {60 * minutes:g} seconds"
    return f"{training.iterations} iterations{limit}"
