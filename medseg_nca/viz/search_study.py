"""What the figures of a search show: objectives, parameters and trials as plain values."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from matplotlib.ticker import MaxNLocator

TrialState = Literal["complete", "pruned", "failed", "running", "waiting"]
# A tick nearer than this share of the axis to one of its ends is left out.
_APART = 0.1


@dataclass(frozen=True)
class ObjectiveView:
    """What a search makes large or small.

    Attributes:
        name: as the study calls it, such as ``latency_ms``.
        caption: as people write it, such as "latency (ms)".
        maximise: whether more is better.
    """

    name: str
    caption: str
    maximise: bool

    @property
    def better(self) -> str:
        """Which side is better, for the caption of an axis."""
        return "higher is better" if self.maximise else "lower is better"


@dataclass(frozen=True)
class ParameterView:
    """A setting that the trials vary, and the scale of its axis.

    Attributes:
        name: key of the setting.
        low, high: ends of the range; 0 and the number of choices minus one where there are choices.
        log: whether the axis is logarithmic.
        integer: whether only whole numbers are tried.
        choices: texts of the choices; None for a number.
    """

    name: str
    low: float
    high: float
    log: bool = False
    integer: bool = False
    choices: tuple[str, ...] | None = None

    def number(self, value: Any) -> float:
        """The value as a number on the axis: a choice counts from 0."""
        return float(self.choices.index(str(value))) if self.choices else float(value)

    def place(self, number: float) -> float:
        """Where a number lies between the ends, from 0 to 1; 0.5 if there is one value only."""
        low, high, at = self.low, self.high, number
        if self.log:
            low, high, at = math.log(low), math.log(high), math.log(at)
        return (at - low) / (high - low) if high > low else 0.5

    def ticks(self) -> dict[float, str]:
        """Numbers on the axis with their captions: the ends and round numbers between them."""
        if self.choices:
            return {float(place): choice for place, choice in enumerate(self.choices)}
        between: np.ndarray
        if self.log and self.high / self.low < 100:
            between = np.geomspace(self.low, self.high, 4)[1:-1]
        elif self.log:
            between = 10.0 ** np.arange(*np.ceil(np.log10([self.low, self.high])))
        else:
            locator = MaxNLocator(4, steps=[1, 2, 2.5, 5, 10])
            between = np.asarray(locator.tick_values(self.low, self.high))
        if self.integer:
            between = np.unique(between.round())
        kept = [v for v in between if _APART < self.place(float(v)) < 1 - _APART]
        return {v: short_number(v) for v in dict.fromkeys((self.low, *map(float, kept), self.high))}


@dataclass(frozen=True)
class TrialView:
    """One trial.

    Attributes:
        number: from 0, in the order of their beginning.
        state: what became of it.
        values: one for each objective; None unless it is complete and all are finite.
        params: value by setting; conditional settings may be missing.
        curve: step and first objective of each validation; finite values only.
    """

    number: int
    state: TrialState
    values: tuple[float, ...] | None
    params: Mapping[str, Any]
    curve: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class StudyView:
    """A whole search; the first objective is the score."""

    objectives: Sequence[ObjectiveView]
    parameters: Sequence[ParameterView]
    trials: Sequence[TrialView]

    @property
    def score(self) -> ObjectiveView:
        """The first objective."""
        return self.objectives[0]

    def of_state(self, state: TrialState) -> list[TrialView]:
        """The trials of one state, in their order."""
        return [trial for trial in self.trials if trial.state == state]

    @cached_property
    def front(self) -> list[TrialView]:
        """The complete trials that no other beats in one objective without losing in another.

        They are sorted from the best score down; of trials that are equal in all objectives the
        first one counts. Of one objective this is the best trial.
        """
        complete = self.of_state("complete")
        if not complete:
            return []
        gains = np.array([self._gains(trial) for trial in complete])
        no_worse = (gains[:, None] >= gains[None]).all(axis=2)
        better = (gains[:, None] > gains[None]).any(axis=2)
        beaten = np.asarray((no_worse & better).any(axis=0))
        kept = [trial for trial, out in zip(complete, beaten, strict=True) if not out]
        first = {trial.values: trial for trial in sorted(kept, key=self._key, reverse=True)}
        return sorted(first.values(), key=self._key)

    @cached_property
    def ranked(self) -> list[TrialView]:
        """The complete trials: the front, then the others, each from the best score down."""
        front = {trial.number for trial in self.front}
        others = [trial for trial in self.of_state("complete") if trial.number not in front]
        return [*self.front, *sorted(others, key=self._key)]

    def _gains(self, trial: TrialView) -> list[float]:
        """The objectives, signed so that more is better."""
        pairs = zip(self.objectives, trial.values or (), strict=True)
        return [value if objective.maximise else -value for objective, value in pairs]

    def _key(self, trial: TrialView) -> tuple[float, ...]:
        return (*(-gain for gain in self._gains(trial)), trial.number)


def short_number(value: float) -> str:
    """A number for a tick or a table: three digits that count, thousands set apart."""
    if not math.isfinite(value):
        return "–"
    if value == round(value) and abs(value) < 1e9:
        return f"{value:,.0f}".replace("-", "−")
    if abs(value) >= 1000:
        return f"{value:,.0f}".replace("-", "−")
    text = f"{value:.3g}"
    mantissa, _, exponent = text.partition("e")
    return (f"{mantissa}e{int(exponent)}" if exponent else text).replace("-", "−")
