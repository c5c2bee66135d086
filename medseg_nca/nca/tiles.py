"""Cut a grid into tiles with a halo, and roll the grid out tile by tile, in place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor

from medseg_nca.job import Meter
from medseg_nca.nca.cell import Cell
from medseg_nca.nca.engines.base import Engine
from medseg_nca.nca.fire import Fire
from medseg_nca.nca.window import cut

Window = tuple[slice, ...]
# A halo grows with the steps between two exchanges of borders. This is its largest width in cells.
_MAX_HALO = 12


class Tile(NamedTuple):
    """A part of a grid.

    Attributes:
        core: the cells of the tile, on the grid.
        outer: the core with its halo, on the grid.
        inside: the core, counted from the first cell of ``outer``.
    """

    core: Window
    outer: Window
    inside: Window


def tiles(shape: Sequence[int], size: Sequence[int], halo: int) -> Iterator[Tile]:
    """Cut a grid into tiles; each cell is in the core of exactly one tile.

    Args:
        shape: cells of the grid per axis.
        size: cells of a core per axis; the last core of an axis may be smaller.
        halo: how many cells around a core belong to the tile; the halo ends at the grid's border.
    """
    starts = [range(0, n, step) for n, step in zip(shape, size, strict=True)]
    for corner in product(*starts):
        ends = [min(c + t, n) for c, t, n in zip(corner, size, shape, strict=True)]
        core = tuple(slice(c, e) for c, e in zip(corner, ends, strict=True))
        outer = tuple(
            slice(max(c - halo, 0), min(e + halo, n))
            for c, e, n in zip(corner, ends, shape, strict=True)
        )
        yield Tile(core, outer, _inside(core, outer))


def steps_between(cell: Cell) -> int:
    """Return how many steps a tile computes before the tiles exchange their borders."""
    return max(1, _MAX_HALO // max(cell.radius, 1))


def roll_in_place(
    engine: Engine,
    cell: Cell,
    state: Tensor,
    steps: int,
    fire: Fire,
    size: Sequence[int],
    meter: Meter | None = None,
) -> None:
    """Run a few steps on every tile, exchange the borders, and repeat until all steps are done.

    Tiles are computed row by row along the first axis. Besides the state, the memory holds the old
    values of one row of tiles: the next row still reads them after the state was overwritten.

    Args:
        engine: computes the steps.
        cell: a cell that is local (:attr:`Cell.local`).
        state: ``(B, C, *spatial)``, overwritten by the new state.
        steps: how many steps.
        fire: which cells update.
        size: cells of a tile's core per axis.
        meter: counts what is done, in cells times steps.
    """
    chunk = steps_between(cell)
    for first in range(0, steps, chunk):
        count = min(chunk, steps - first)
        _roll_rows(engine, cell, state, count, fire.advance(first), size, meter)


def _roll_rows(
    engine: Engine,
    cell: Cell,
    state: Tensor,
    count: int,
    fire: Fire,
    size: Sequence[int],
    meter: Meter | None,
) -> None:
    halo, length = count * cell.radius, state.shape[2]
    before: Tensor | None = None
    for begin in range(0, length, size[0]):
        end = min(begin + size[0], length)
        low, high = max(begin - halo, 0), min(end + halo, length)
        # An earlier row has overwritten this many planes from ``low`` on; ``before`` has their old
        # values.
        known = 0 if before is None else before.shape[2]
        rest = state[:, :, low + known : high]
        old = rest.clone() if before is None else torch.cat((before, rest), 2)
        row = state[:, :, begin:end]
        for tile in tiles(row.shape[2:], size, halo):
            outer = (slice(0, high - low), *tile.outer[1:])
            inside = (slice(begin - low, end - low), *tile.inside[1:])
            origin = [low, *(axis.start for axis in outer[1:])]
            part = cut(old, outer)
            rolled = engine.roll_out(cell, part, count, fire.at(origin), None)
            cut(row, tile.core).copy_(cut(rolled, inside))
            if meter is not None:
                meter.advance(count * cut(row, tile.core)[0, 0].numel())
        ahead = max(end - halo, 0)
        before = old[:, :, ahead - low : end - low].clone()
        del old, part, rolled


def _inside(core: Window, outer: Window) -> Window:
    return tuple(
        slice(c.start - o.start, c.stop - o.start) for c, o in zip(core, outer, strict=True)
    )
