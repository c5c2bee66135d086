"""How a level goes through its grid within a memory budget: whole, in tiles, or in tiles in place.

Tiles that begin from the coarser level run all their steps on their own, with a halo as wide as the
steps reach: nothing as large as the grid exists, but halos are computed more than once. Tiles in
place exchange their borders every few steps: their halos are thin, but the state of the whole grid
exists. The way with the least work of those that fit is taken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Literal

from medseg_nca.nca import Cell
from medseg_nca.nca.tiles import steps_between

# Smaller tiles would be halo more than core.
_SMALLEST = 32
# Larger ones are no faster, and nothing is told of their progress meanwhile.
_LARGEST = 1 << 22
# A way that computes each cell so many times is none.
_MOST_WORK = 30.0

Way = Literal["whole", "alone", "in place"]


@dataclass(frozen=True)
class LevelNeed:
    """What a level asks for.

    Attributes:
        size: cells per axis.
        steps: of the automaton.
        radius: how far a cell sees in a step.
        exchange: steps that a tile in place is taken through at once.
        local: whether the level may be cut into tiles at all.
        working: bytes for each cell of a part while it is computed, all samples.
        stored: bytes of each cell's state, all samples.
    """

    size: tuple[int, ...]
    steps: int
    radius: int
    exchange: int
    local: bool
    working: float
    stored: float

    @classmethod
    def of(
        cls, cell: Cell, size: Sequence[int], steps: int, working: float, stored: float
    ) -> LevelNeed:
        """Of a cell that runs on a grid."""
        exchange = min(steps_between(cell), max(steps, 1))
        return cls(tuple(size), steps, cell.radius, exchange, cell.local, working, stored)


@dataclass(frozen=True)
class Tiling:
    """A way through a grid.

    Attributes:
        way: ``whole``; ``alone``: each tile takes all steps at once; ``in place``.
        size: of a tile's core.
        bytes: what it needs at a time.
        work: cells that are computed, for each cell of the grid.
    """

    way: Way
    size: tuple[int, ...]
    bytes: float
    work: float = 1.0


def plan_tiles(need: LevelNeed, budget: float | None) -> Tiling:
    """Choose the way with the least work that fits into ``budget`` bytes.

    Where none fits, the one that needs the least memory is returned.
    """
    whole = _whole(need)
    if budget is None or whole.bytes <= budget or not need.local:
        return whole
    fitting = [t for ways in _tilings(need) if (t := _first(ways, budget)) is not None]
    return min(fitting, key=lambda t: t.work) if fitting else least(need)


def least(need: LevelNeed) -> Tiling:
    """The way that needs the least memory."""
    smallest = [_whole(need)]
    if need.local:
        smallest += [min(ways, key=lambda t: t.bytes) for ways in _tilings(need) if ways]
    return min(smallest, key=lambda t: t.bytes)


def _first(tilings: Sequence[Tiling], budget: float) -> Tiling | None:
    return next((tiling for tiling in tilings if tiling.bytes <= budget), None)


def _whole(need: LevelNeed) -> Tiling:
    return Tiling("whole", need.size, prod(need.size) * need.working)


def _tilings(need: LevelNeed) -> list[list[Tiling]]:
    """Every way of both kinds that is worth it, from large tiles to small ones."""
    ways: tuple[Callable[[LevelNeed, tuple[int, ...]], Tiling], ...] = (_alone, _in_place)
    found = [[way(need, size) for size in _sizes(need.size)] for way in ways]
    return [[t for t in tilings if t.work <= _MOST_WORK] for tilings in found]


def _alone(need: LevelNeed, size: tuple[int, ...]) -> Tiling:
    halo = need.steps * need.radius
    return Tiling(
        "alone", size, prod(_outer(need.size, size, halo)) * need.working,
        _work(need.size, size, halo),
    )  # fmt: skip


def _in_place(need: LevelNeed, size: tuple[int, ...]) -> Tiling:
    halo = need.exchange * need.radius
    outer = _outer(need.size, size, halo)
    planes = outer[0] + 2 * halo  # of a row as it was, and what is kept of it for the next
    kept = (need.size[0] + planes) * prod(need.size[1:]) * need.stored
    work = _work(need.size, size, halo)
    return Tiling("in place", size, kept + prod(outer) * need.working, work)


def _sizes(whole: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """Halve the longest axis again and again, as long as there is something to halve."""
    size = list(whole)
    while max(size) > _SMALLEST:
        longest = size.index(max(size))
        size[longest] = max(-(-size[longest] // 2), _SMALLEST)
        if prod(size) <= _LARGEST:
            yield tuple(size)


def _outer(whole: Sequence[int], size: Sequence[int], halo: int) -> list[int]:
    return [min(s + 2 * halo, n) for s, n in zip(size, whole, strict=True)]


def _work(whole: Sequence[int], size: Sequence[int], halo: int) -> float:
    work = 1.0
    for n, s in zip(whole, size, strict=True):
        spans = [(max(a - halo, 0), min(min(a + s, n) + halo, n)) for a in range(0, n, s)]
        work *= sum(high - low for low, high in spans) / n
    return work
