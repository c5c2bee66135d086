"""Where a state settles: a fixed point, a cycle, drift, or explosion.

With a drawn fire mask every step is another map, and a state that is still under one mask may move
under the next. A state is a fixed point of all of them exactly when no cell wants to change: when
it is a fixed point of the mask-free map, in which every cell adds ``fire_rate`` times its change.
That map is also the mean of the drawn ones, and it is deterministic, so that a cycle has a period.
The verdict is therefore that of the mask-free map, from the state after the trained steps; how far
the state wanders under drawn masks is measured beside it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medseg_nca.errors import NonFiniteStateError
from medseg_nca.job import Job
from medseg_nca.nca.start import RollOutStart

Floats = NDArray[np.float64]
Kind = Literal["fixed point", "approach", "cycle", "drift", "explosion", "wandering"]
KINDS: tuple[Kind, ...] = ("fixed point", "approach", "cycle", "drift", "explosion", "wandering")
# A state smaller than this counts as being of this size: what nears zero is not in motion for ever.
_LEAST_SIZE = 1e-3
# Hidden values of one state that are compared, over all samples; of more, cells are drawn.
_MOST_VALUES = 100_000
# And of all states of a window together: 200 MB.
_MOST_HELD = 25_000_000


@dataclass(frozen=True)
class Criteria:
    """By what a verdict is reached; ``W`` is the number of steps of the window.

    Attributes:
        still: a fixed point, if no two states of the window are further apart than this share of
            the state's size (its largest root mean square in the window).
        slowing: an approach, if the speed in the last quarter of the window is at most this share
            of the speed in its first quarter.
        returned: a cycle of ``p`` steps, 2 <= p <= W / 2, if states ``p`` steps apart differ, on
            average, by at most this share of the largest mean difference at a smaller lag.
        straight: drift, if the way from the first state of the window to its last is at least this
            share of the length of the path.
        growth: explosion, if a value is not finite; or if the state's size grew at least so many
            times in the window, and
        speeding: the speed of its second half is at least so many times that of the first, and
        bound: the largest absolute value is beyond this.
    """

    still: float = 0.01
    slowing: float = 0.5
    returned: float = 0.1
    straight: float = 0.5
    growth: float = 2.0
    speeding: float = 1.5
    bound: float = 10.0


@dataclass(frozen=True)
class SettlingVerdict:
    """Where a state settles.

    Attributes:
        kind: "fixed point"; "approach" (it moves, slower and slower); "cycle"; "drift" (it moves
            on in one direction); "explosion"; "wandering" (none of these).
        period: of a cycle, in steps.
        spread: the largest distance between two states of the window, as a share of the size.
        speed: mean size of a step in the window, as a share of the size.
        straightness: the way from the first to the last state, as a share of the path.
    """

    kind: Kind
    period: int | None = None
    spread: float = math.inf
    speed: float = math.inf
    straightness: float = math.nan


def judge(states: Floats, criteria: Criteria | None = None) -> SettlingVerdict:
    """Reach a verdict on consecutive states of a deterministic roll-out.

    The criteria are asked in this order: explosion, fixed point, approach, cycle, drift; a state
    that meets none of them is wandering. Distances are root mean squares over the values.

    Args:
        states: ``(W + 1, n)``, a state in each row, at least 9 of them.
        criteria: see :class:`Criteria`.

    Raises:
        ValueError: if there are fewer states.
    """
    rules = criteria or Criteria()
    if len(states) < 9:
        raise ValueError(f"judge needs at least 9 states, got {len(states)}")
    if not np.isfinite(states).all():
        return SettlingVerdict("explosion")
    apart = _distances(states)
    sizes = np.sqrt((states**2).mean(1))
    size = max(float(sizes.max()), _LEAST_SIZE)
    speeds = np.diagonal(apart, 1)
    path = float(speeds.sum())
    spread, speed = float(apart.max()) / size, path / len(speeds) / size
    straightness = float(apart[0, -1]) / path if path else 0.0

    def verdict(kind: Kind, period: int | None = None) -> SettlingVerdict:
        return SettlingVerdict(kind, period, spread, speed, straightness)

    half, quarter = len(speeds) // 2, len(speeds) // 4
    grew = sizes[-1] >= rules.growth * max(float(sizes[0]), _LEAST_SIZE)
    sped = speeds[half:].mean() >= rules.speeding * speeds[:half].mean()
    if grew and sped and float(np.abs(states).max()) > rules.bound:
        return verdict("explosion")
    if spread <= rules.still:
        return verdict("fixed point")
    if speeds[-quarter:].mean() <= rules.slowing * speeds[:quarter].mean():
        return verdict("approach")
    period = _period(apart, rules.returned)
    if period is not None:
        return verdict("cycle", period)
    return verdict("drift" if straightness >= rules.straight else "wandering")


def _distances(states: Floats) -> Floats:
    """Return the distance of every two states, ``(W + 1, W + 1)``."""
    middle = states - states.mean(0)  # small differences survive the subtraction of squares
    squares = (middle**2).sum(1)
    apart = squares[:, None] + squares[None] - 2 * middle @ middle.T
    np.fill_diagonal(apart, 0)
    found: Floats = np.sqrt(np.maximum(apart, 0) / max(states.shape[1], 1))
    return found


def _period(apart: Floats, returned: float) -> int | None:
    """Return after how many steps the states come back; None if they do not."""
    lags = [float(np.diagonal(apart, lag).mean()) for lag in range(1, (len(apart) - 1) // 2 + 1)]
    for place in range(1, len(lags)):
        if lags[place] <= returned * max(lags[:place]):
            while place + 1 < len(lags) and lags[place + 1] < lags[place]:
                place += 1
            return place + 1
    return None


@dataclass(frozen=True)
class Settled:
    """Where the samples of a roll-out settle.

    Attributes:
        verdicts: one for each sample, of the mask-free map.
        distances: of the first sample, how far each two states of the window are apart.
        fluctuation: under drawn masks, how far a state of the window is from a straight way
            through the window, as a share of the state's size, averaged over states and samples;
            None if the cell fires in every step.
        window: how many steps the window has.
        ends: the first and the last state of the window, without masks; None where a state was not
            finite.
    """

    verdicts: tuple[SettlingVerdict, ...]
    distances: Floats
    fluctuation: float | None
    window: int
    ends: tuple[Tensor, Tensor] | None


def settle(
    start: RollOutStart,
    steps: int,
    criteria: Criteria | None = None,
    *,
    seed: int = 0,
    job: Job | None = None,
) -> Settled:
    """Take the trained steps, go on without fire masks, and judge the second half of the way.

    Args:
        start: the roll-out.
        steps: how many steps are taken after the trained ones, at least 16.
        criteria: see :class:`Criteria`.
        seed: draws the cells that are compared, where a state has more than 100,000 hidden values,
            or the states of the window more than 25 million.
        job: asked in every step whether to go on.

    Raises:
        Interrupted: if the job was cancelled.
    """
    job = job or Job()
    window = steps // 2
    samples = start.state.shape[0]
    try:
        trained = start.go(start.steps, lambda state: job.check())
    except NonFiniteStateError:
        return Settled(
            (SettlingVerdict("explosion"),) * samples, np.zeros((0, 0)), None, window, None
        )
    after = start.after(start.steps, trained)
    pick = _picker(start, window, seed)
    free, ends = _tail(after.masked("mean"), steps, window, pick, job)
    if free is None:
        return Settled(
            (SettlingVerdict("explosion"),) * samples, np.zeros((0, 0)), None, window, None
        )
    verdicts = tuple(judge(free[:, sample], criteria) for sample in range(samples))
    fluctuation = None
    if after.cell.settings.fire_rate < 1:
        drawn, _ = _tail(after.masked("sample"), steps, window, pick, job)
        fluctuation = None if drawn is None else _fluctuation(drawn)
    return Settled(verdicts, _distances(free[:, 0]), fluctuation, window, ends)


def most_compared(samples: int, channels: int, window: int) -> int:
    """Return how many cells of a state are compared at most, at least 1.

    The states of a window are held at once, so fewer are compared in a longer one.

    Args:
        samples: number of roll-outs at once.
        channels: number of hidden channels.
        window: number of steps in it.
    """
    values = min(_MOST_VALUES, _MOST_HELD // (window + 1))
    return max(values // (samples * channels), 1)


def _picker(start: RollOutStart, window: int, seed: int) -> Callable[[Tensor], Floats]:
    """Return a function that takes the compared values out of a state, ``(B, n)``."""
    samples, channels, cells = start.state[:, start.hidden].flatten(2).shape
    most = most_compared(samples, channels, window)
    places = None
    if cells > most:
        drawn = np.random.default_rng(seed).choice(cells, most, replace=False)
        places = torch.from_numpy(np.sort(drawn)).to(start.state.device)

    def pick(state: Tensor) -> Floats:
        hidden = state[:, start.hidden].flatten(2)
        chosen = hidden if places is None else hidden.index_select(2, places)
        found: Floats = chosen.flatten(1).double().cpu().numpy()
        return found

    return pick


def _tail(
    start: RollOutStart, steps: int, window: int, pick: Callable[[Tensor], Floats], job: Job
) -> tuple[Floats | None, tuple[Tensor, Tensor] | None]:
    """Return the last states ``(window + 1, B, n)``, and the first and the last as tensors."""
    rows: list[Floats] = [pick(start.state)]
    first, taken = start.state, 0

    def record(state: Tensor) -> None:
        nonlocal first, taken
        job.check()
        taken += 1
        rows.append(pick(state))
        if len(rows) > window + 1:
            del rows[0]
        if taken == steps - window:
            first = state.clone()

    try:
        last = start.go(steps, record)
    except NonFiniteStateError:
        return None, None
    if taken < steps - window:  # the window begins after it has stopped
        first = last
    # An automaton that stops by itself stays where it is.
    rows += [rows[-1]] * (steps - taken)
    states = np.stack(rows[-(window + 1) :])
    return (states, (first, last)) if np.isfinite(states).all() else (None, None)


def _fluctuation(states: Floats) -> float:
    """Return how far states ``(T, B, n)`` are from a straight way, as a mean share of their size.

    The way of each value is its least-squares line over the steps: drift is no fluctuation.
    """
    times = np.arange(len(states)) - (len(states) - 1) / 2
    away = states - states.mean(0)
    slopes = np.tensordot(times, away, 1) / (times**2).sum()
    away -= times[:, None, None] * slopes
    distances = np.sqrt((away**2).mean(-1))
    sizes = np.maximum(np.sqrt((states**2).mean(-1)).max(0), _LEAST_SIZE)
    return float((distances / sizes).mean())
