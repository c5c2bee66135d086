"""One dimension of a search: a setting, and the values that it may take."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from medseg_nca.errors import ConfigError
from medseg_nca.suggest import unknown

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.trial import Trial

Kind = Literal["log", "float", "int", "choice"]
KINDS: tuple[Kind, ...] = ("log", "float", "int", "choice")
# What a storage keeps of a choice as it is; any other value is kept as its JSON text.
_PLAIN = (bool, int, float, str)
HOW = (
    "Write {log: [1e-4, 1e-2]}, {float: [0.3, 0.9]}, {int: [8, 32]} or {int: [8, 32, 8]} (with a "
    "step), or {choice: [a, b]}."
)


@dataclass(frozen=True)
class Dimension:
    """A setting and its values.

    Attributes:
        key: the setting, as ``--set`` writes it.
        kind: "log" (a number, drawn on a logarithmic scale), "float", "int" or "choice".
        low, high: the ends of a range, which are values too; 0 for a choice.
        step: distance between two values of a range; None if any value between the ends is one.
        choices: the values of a choice.
    """

    key: str
    kind: Kind
    low: float = 0
    high: float = 0
    step: float | None = None
    choices: tuple[Any, ...] = ()

    @property
    def extremes(self) -> tuple[Any, ...]:
        """The values that are tried against the settings before a search: ends, or all choices."""
        return self.choices if self.kind == "choice" else (self.low, self.high)

    @property
    def distribution(self) -> BaseDistribution:
        """The dimension as Optuna knows it."""
        from optuna.distributions import (
            CategoricalDistribution,
            FloatDistribution,
            IntDistribution,
        )

        if self.kind == "choice":
            return CategoricalDistribution([encoded(value) for value in self.choices])
        if self.kind == "int":
            return IntDistribution(int(self.low), int(self.high), step=int(self.step or 1))
        return FloatDistribution(self.low, self.high, log=self.kind == "log", step=self.step)

    def suggest(self, trial: Trial) -> Any:
        """Let Optuna draw a value for a trial; return it as the settings take it."""
        if self.kind == "choice":
            options = [encoded(value) for value in self.choices]
            return self.decoded(trial.suggest_categorical(self.key, options))
        if self.kind == "int":
            step = int(self.step or 1)
            return trial.suggest_int(self.key, int(self.low), int(self.high), step=step)
        log = self.kind == "log"
        return trial.suggest_float(self.key, self.low, self.high, log=log, step=self.step)

    def decoded(self, value: Any) -> Any:
        """Return a value of a trial's ``params`` as the settings take it."""
        if self.kind != "choice":
            return value
        return next((c for c in self.choices if _same(encoded(c), value)), value)

    def holds(self, value: Any) -> bool:
        """Return whether a value is one of the dimension's."""
        if self.kind == "choice":
            return any(_same(encoded(choice), encoded(value)) for choice in self.choices)
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        on_step = self.step is None or math.isclose(
            (value - self.low) / self.step, round((value - self.low) / self.step), abs_tol=1e-9
        )
        whole = self.kind != "int" or float(value).is_integer()
        return self.low <= value <= self.high and on_step and whole

    def to_plain(self) -> dict[str, Any]:
        """Return the dimension as a space file writes it."""
        if self.kind == "choice":
            return {"choice": list(self.choices)}
        ends = [self.low, self.high] if self.step is None else [self.low, self.high, self.step]
        return {self.kind: ends}

    def __str__(self) -> str:
        if self.kind == "choice":
            return "one of " + ", ".join(str(value) for value in self.choices)
        step = "" if self.step is None else f" in steps of {self.step:g}"
        scale = ", logarithmic" if self.kind == "log" else ""
        return f"{self.low:g} to {self.high:g}{step}{scale}"


def encoded(value: Any) -> Any:
    """Return a choice as a storage keeps it: a number, a word, or else its JSON text."""
    return value if value is None or isinstance(value, _PLAIN) else json.dumps(value)


def _same(one: Any, other: Any) -> bool:
    """Return whether two encoded values are equal; ``True`` is not 1."""
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def dimension(key: str, spec: Any, source: str) -> Dimension:
    """Read a dimension as a space file writes it.

    Args:
        key: the setting.
        spec: a mapping with one of :data:`KINDS` as its key.
        source: the file or option, for messages.

    Raises:
        ConfigError: if it is written otherwise, or a range is empty or reversed.
    """
    where = f"{source}: {key}"
    if not isinstance(spec, Mapping) or len(spec) != 1:
        raise ConfigError(f"{where}: says not which values it may take: {spec!r}.", hint=HOW)
    kind, values = next(iter(spec.items()))
    if kind not in KINDS:
        raise ConfigError(f"{where}: {unknown('kind of range', str(kind), KINDS)}", hint=HOW)
    if not isinstance(values, Sequence) or isinstance(values, str):
        raise ConfigError(f"{where}: {kind} needs a list, got {values!r}.", hint=HOW)
    if kind == "choice":
        return _choice(key, values, where)
    return _range(key, kind, values, where)


def _choice(key: str, values: Sequence[Any], where: str) -> Dimension:
    kept: list[Any] = []
    for value in values:
        if any(_same(encoded(value), encoded(other)) for other in kept):
            raise ConfigError(f"{where}: the choice {value!r} is listed twice.")
        kept.append(value)
    if not kept:
        raise ConfigError(f"{where}: the choice is empty.", hint=HOW)
    if len(kept) == 1:
        raise ConfigError(
            f"{where}: there is one choice only, {kept[0]!r}, so there is nothing to search.",
            hint=f"Set it: --set {key}={kept[0]}",
        )
    return Dimension(key, "choice", choices=tuple(kept))


def _range(key: str, kind: Kind, values: Sequence[Any], where: str) -> Dimension:
    if len(values) not in (2, 3):
        raise ConfigError(f"{where}: {kind} needs two ends and maybe a step: {values!r}.", hint=HOW)
    for value in values:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not math.isfinite(value):
            raise ConfigError(f"{where}: {value!r} is not a finite number.", hint=HOW)
        if kind == "int" and not float(value).is_integer():
            raise ConfigError(f"{where}: {value!r} is not a whole number.", hint=HOW)
    low, high = values[0], values[1]
    if low == high:
        raise ConfigError(f"{where}: the range from {low:g} to {high:g} is empty.", hint=HOW)
    if low > high:
        raise ConfigError(
            f"{where}: the range from {low:g} to {high:g} is reversed.",
            hint=f"Write the lower end first: {high:g}, {low:g}.",
        )
    if kind == "log" and low <= 0:
        raise ConfigError(
            f"{where}: a logarithmic range begins above 0, not at {low:g}.",
            hint="Take float instead of log, or a lower end above 0.",
        )
    step = values[2] if len(values) == 3 else None
    if step is not None and kind == "log":
        raise ConfigError(f"{where}: a logarithmic range has no step.", hint=HOW)
    if step is not None and not 0 < step <= high - low:
        raise ConfigError(f"{where}: the step must be above 0 and at most {high - low:g}.")
    convert = int if kind == "int" else float
    return Dimension(
        key, kind, convert(low), convert(high), None if step is None else convert(step)
    )
