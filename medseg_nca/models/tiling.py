"""Plan how a level computes its grid within a memory budget: as a whole, or in tiles.

There are two kinds of tiles. Tiles "alone" begin from the coarser level and run all their steps,
with a halo as wide as the steps reach: the state of the whole grid never exists, but the cells of
halos are computed more than once. Tiles "in place" exchange their borders every few steps: their
halos are thin, but the state of the whole grid exists. Of the ways that fit into the budget, the
one with the least work is taken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Literal

from medseg_nca.nca import Cell
from medseg_nca.nca.tiles import steps_between

# Least cells of a tile along an axis; smaller tiles would consist mostly of halo.
_SMALLEST = 32
# Most cells of a tile: larger ones are no faster, and progress is reported only after each tile.
_LARGEST = 1 << 22
# A way that computes each cell more often than this, on average, is not considered.
_MOST_WORK = 30.0

Way = Literal["whole", "alone", "in place"]


@dataclass(frozen=True)
class LevelNeed:
    """What a level must compute, and the memory that it takes.

    Attributes:
        size: cells per axis.
        steps: number of steps of the automaton.
        radius: how far a cell sees in one step, in cells.
        exchange: number of steps between two exchanges of borders, for tiles in place.
        local: whether the level may be cut into tiles (:attr:`Cell.local`).
        working: bytes for each cell of a tile while it is computed, for all samples together.
        stored: bytes of each cell's state, for all samples together.
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
        """Return the need of a cell that takes ``steps`` steps on a grid of ``size`` cells."""
        exchange = min(steps_between(cell), max(steps, 1))
        return cls(tuple(size), steps, cell.radius, exchange, cell.local, working, stored)


@dataclass(frozen=True)
class Tiling:
    """A way to compute a grid.

    Attributes:
        way: "whole"; "alone", where each tile takes all steps at once; or "in place", where the
            tiles exchange their borders.
        size: cells of a tile's core, per axis.
        bytes: the largest memory in use at a time.
        work: how often a cell is computed, on average over the grid.
    """

    way: Way
    size: tuple[int, ...]
    bytes: float
    work: float = 1.0


def plan_tiles(need: LevelNeed, budget: float | None) -> Tiling:
    """Choose the way with the least work that fits into ``budget`` bytes.

    If no way fits, the way that needs the least memory is returned. None sets no limit.
    """
    whole = _whole(need)
    if budget is None or whole.bytes <= budget or not need.local:
        return whole
    fitting = [t for ways in _tilings(need) if (t := _first(ways, budget)) is not None]
    return min(fitting, key=lambda t: t.work) if fitting else least(need)


def least(need: LevelNeed) -> Tiling:
    """Return the way that needs the least memory."""
    smallest = [_whole(need)]
    if need.local:
        smallest += [min(ways, key=lambda t: t.bytes) for ways in _tilings(need) if ways]
    return min(smallest, key=lambda t: t.bytes)


def _first(tilings: Sequence[Tiling], budget: float) -> Tiling | None:
    return next((tiling for tiling in tilings if tiling.bytes <= budget), None)


def _whole(need: LevelNeed) -> Tiling:
    return Tiling("whole", need.size, prod(need.size) * need.working)


def _tilings(need: LevelNeed) -> list[list[Tiling]]:
    """Return all ways of both kinds that are considered, from large tiles to small ones."""
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
    planes = outer[0] + 2 * halo  # a row's old values, and those kept for the next row
    kept = (need.size[0] + planes) * prod(need.size[1:]) * need.stored
    work = _work(need.size, size, halo)
    return Tiling("in place", size, kept + prod(outer) * need.working, work)


def _sizes(whole: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """Yield sizes of tiles: the longest axis is halved again and again, down to the least size."""
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
