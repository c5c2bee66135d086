"""Focus: a fine level computes only cells around the foreground that the coarser level found."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod

from torch import Tensor
from torch.nn import functional as F

from medseg_nca.config.model import FocusSettings

Box = tuple[slice, ...]


def cells_in_focus(logits: Tensor, focus: FocusSettings, scale: Sequence[int]) -> Tensor:
    """Return the cells that are foreground or within the margin of one.

    Args:
        logits: ``(B, K, *spatial)`` of the coarser level.
        focus: how wide the margin is, and what counts as foreground.
        scale: size of the coarser level's cells in voxels, per axis.

    Returns:
        Bool ``(B, *spatial)``; True everywhere in a sample that has no foreground.
    """
    first = 0 if focus.background is False else 1
    found = logits[:, first:].amax(1) > (logits[:, 0] if first else 0.0)
    margin = [-(-focus.margin // s) for s in scale]
    pool = F.max_pool2d if len(scale) == 2 else F.max_pool3d
    grown = found.to(logits.dtype).unsqueeze(1)
    for axis, width in enumerate(margin):  # pooling axis by axis gives the same with less work
        size = [2 * width + 1 if a == axis else 1 for a in range(len(margin))]
        grown = pool(grown, size, stride=1, padding=[s // 2 for s in size])
    wide = grown.squeeze(1) > 0
    nothing = ~found.flatten(1).any(1)
    wide[nothing] = True
    return wide


def box_around(cells: Tensor, reach: Sequence[int], least: Sequence[int]) -> Box:
    """Return the smallest box that holds all True cells of a batch and their surroundings.

    Args:
        cells: bool ``(B, *spatial)``.
        reach: how many cells wider the box is on each side of an axis; it ends at the border.
        least: the least number of cells of the box along an axis, if the grid has as many.
    """
    where = cells.any(0).nonzero()
    low, high = where.amin(0).tolist(), where.amax(0).tolist()
    box = []
    for a, b, r, m, n in zip(low, high, reach, least, cells.shape[1:], strict=True):
        size = min(max(b + 1 - a + 2 * r, m), n)
        start = min(max((a + b + 1 - size) // 2, 0), n - size)
        box.append(slice(min(start, max(a - r, 0)), max(start + size, min(b + 1 + r, n))))
    return tuple(box)


def finer(box: Box, factor: Sequence[int]) -> Box:
    """Return the same box on a grid that is ``factor`` times finer."""
    return tuple(slice(b.start * f, b.stop * f) for b, f in zip(box, factor, strict=True))


def outward(part: Box, box: Box) -> Box:
    """Return a part, given relative to the box's first cell, on the grid that the box is on."""
    return tuple(slice(b.start + p.start, b.start + p.stop) for p, b in zip(part, box, strict=True))


def repeat(cells: Tensor, factor: Sequence[int]) -> Tensor:
    """Repeat each cell of ``(B, *spatial)`` along each axis, ``factor`` times."""
    for axis, times in enumerate(factor, start=1):
        cells = cells.repeat_interleave(times, axis) if times > 1 else cells
    return cells


def split_rows(box: Box, cells: int) -> Iterator[Box]:
    """Cut a box into parts of at most ``cells`` cells, along its first axis, then the next ones."""
    sizes = [b.stop - b.start for b in box]
    row = prod(sizes[1:])
    if row > cells and len(box) > 1:
        for start in range(box[0].start, box[0].stop):
            for rest in split_rows(box[1:], cells):
                yield (slice(start, start + 1), *rest)
        return
    step = max(cells // max(row, 1), 1)
    for start in range(box[0].start, box[0].stop, step):
        yield (slice(start, min(start + step, box[0].stop)), *box[1:])


def shell(box: Box, grid: Sequence[int]) -> Iterator[Box]:
    """Yield boxes that together cover the grid around a box."""
    for axis, (inner, size) in enumerate(zip(box, grid, strict=True)):
        for side in (slice(0, inner.start), slice(inner.stop, size)):
            if side.start < side.stop:
                rest = (slice(0, n) for n in grid[axis + 1 :])
                yield (*box[:axis], side, *rest)
