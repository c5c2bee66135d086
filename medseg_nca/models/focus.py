"""Where a fine level is worth its steps: around what the coarser level found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from medseg_nca.config.model import FocusSettings
from medseg_nca.nca.window import cut

Box = tuple[slice, ...]


@dataclass(frozen=True)
class Place:
    """Which part of its grid a level runs on.

    Attributes:
        box: the part.
        awake: bool ``(B, *spatial)``, the cells of the part that may update; None is all.
        outside: logits ``(B, K, *grid)`` that the coarser levels gave, for what lies around; None
            where the box is the grid.
    """

    box: Box
    awake: Tensor | None = None
    outside: Tensor | None = None

    def logits(self, state: Tensor, head: nn.Module) -> Tensor:
        """The logits of the whole grid ``(B, K, *grid)``; written into ``outside``.

        Where nothing was updated they stay those of the coarser levels.

        Args:
            state: ``(B, C, *spatial)`` of the part.
            head: maps cells ``(..., C)`` to ``(..., K)``.
        """
        cells = state.movedim(1, -1)
        if self.outside is None:
            return head(cells).movedim(-1, 1)  # type: ignore[no-any-return]
        part = cut(self.outside, self.box).movedim(1, -1)
        if self.awake is None:
            part.copy_(head(cells))
        else:
            places = self.awake.nonzero(as_tuple=True)
            part[places] = head(cells[places]).to(part.dtype)
        return self.outside


def cells_in_focus(logits: Tensor, focus: FocusSettings, scale: Sequence[int]) -> Tensor:
    """Return the cells that are foreground or within the margin of one.

    Args:
        logits: ``(B, K, *spatial)`` of the coarser level.
        focus: how wide the margin is, and what counts as foreground.
        scale: size of the level's cells in voxels.

    Returns:
        Bool ``(B, *spatial)``; all cells of a sample in which nothing is foreground.
    """
    first = 0 if focus.background is False else 1
    found = logits[:, first:].amax(1) > (logits[:, 0] if first else 0.0)
    margin = [-(-focus.margin // s) for s in scale]
    pool = F.max_pool2d if len(scale) == 2 else F.max_pool3d
    grown = found.to(logits.dtype).unsqueeze(1)
    for axis, width in enumerate(margin):  # one axis after the other is less work
        size = [2 * width + 1 if a == axis else 1 for a in range(len(margin))]
        grown = pool(grown, size, stride=1, padding=[s // 2 for s in size])
    wide = grown.squeeze(1) > 0
    nothing = ~found.flatten(1).any(1)
    wide[nothing] = True
    return wide


def box_around(cells: Tensor, reach: Sequence[int], least: Sequence[int]) -> Box:
    """Return the smallest box that holds all true cells of a batch, and their surroundings.

    Args:
        cells: bool ``(B, *spatial)``.
        reach: how many cells wider the box is on each side of an axis, inside the grid.
        least: how many cells it has at least along an axis, inside the grid.
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
    """The same box on a grid that is ``factor`` times finer."""
    return tuple(slice(b.start * f, b.stop * f) for b, f in zip(box, factor, strict=True))


def outward(part: Box, box: Box) -> Box:
    """A part of a box, counted from where the box is counted."""
    return tuple(slice(b.start + p.start, b.start + p.stop) for p, b in zip(part, box, strict=True))


def whole_box(state: Tensor) -> Box:
    """All cells of ``(B, C, *spatial)``."""
    return tuple(slice(0, n) for n in state.shape[2:])


def repeat(cells: Tensor, factor: Sequence[int]) -> Tensor:
    """Repeat each of the cells ``(B, *spatial)`` ``factor`` times along each axis."""
    for axis, times in enumerate(factor, start=1):
        cells = cells.repeat_interleave(times, axis) if times > 1 else cells
    return cells
