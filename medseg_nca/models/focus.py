"""Where a fine level is worth its steps: the box around what the coarser level found."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from medseg_nca.config.model import FocusSettings

Box = tuple[slice, ...]


def focus_box(logits: Tensor, focus: FocusSettings, scale: Sequence[int]) -> Box:
    """Return the box of cells that holds every foreground cell of a batch, and a margin.

    Args:
        logits: ``(B, K, *spatial)`` of the coarser level.
        focus: how wide the margin is, and what counts as foreground.
        scale: size of the level's cells in voxels.

    Returns:
        One slice an axis, in cells; the whole grid where nothing is foreground.
    """
    background = logits[:, 0] if focus.background else 0.0
    found = logits[:, int(focus.background) :].amax(1) > background
    shape = found.shape[1:]
    where = found.any(0).nonzero()
    if not len(where):
        return tuple(slice(0, n) for n in shape)
    low, high = where.amin(0).tolist(), where.amax(0).tolist()
    margins = [-(-focus.margin // s) for s in scale]
    return tuple(
        slice(max(a - m, 0), min(b + m + 1, n))
        for a, b, m, n in zip(low, high, margins, shape, strict=True)
    )


def finer(box: Box, factor: Sequence[int]) -> Box:
    """The same box on a grid that is ``factor`` times finer."""
    return tuple(slice(b.start * f, b.stop * f) for b, f in zip(box, factor, strict=True))


def outward(part: Box, box: Box) -> Box:
    """A part of a box, counted from where the box is counted."""
    return tuple(slice(b.start + p.start, b.start + p.stop) for p, b in zip(part, box, strict=True))


def whole_box(state: Tensor) -> Box:
    """All cells of ``(B, C, *spatial)``."""
    return tuple(slice(0, n) for n in state.shape[2:])
