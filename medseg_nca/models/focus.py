"""Where a fine level is worth its steps: around what the coarser level found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor
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

    def paste(self, logits: Tensor) -> Tensor:
        """The logits of the part, with those of the coarser levels around it; in place."""
        if self.outside is None:
            return logits
        cut(self.outside, self.box).copy_(logits)
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
    background = logits[:, 0] if focus.background else 0.0
    found = logits[:, int(focus.background) :].amax(1) > background
    margin = [-(-focus.margin // s) for s in scale]
    pool = F.max_pool2d if len(scale) == 2 else F.max_pool3d
    size = [2 * m + 1 for m in margin]
    wide = pool(found.to(logits.dtype).unsqueeze(1), size, stride=1, padding=margin).squeeze(1) > 0
    nothing = ~found.flatten(1).any(1)
    wide[nothing] = True
    return wide


def box_around(cells: Tensor) -> Box:
    """Return the smallest box, a slice an axis, that holds all true cells of ``(B, *spatial)``."""
    where = cells.any(0).nonzero()
    low, high = where.amin(0).tolist(), where.amax(0).tolist()
    return tuple(slice(a, b + 1) for a, b in zip(low, high, strict=True))


def finer(box: Box, factor: Sequence[int]) -> Box:
    """The same box on a grid that is ``factor`` times finer."""
    return tuple(slice(b.start * f, b.stop * f) for b, f in zip(box, factor, strict=True))


def outward(part: Box, box: Box) -> Box:
    """A part of a box, counted from where the box is counted."""
    return tuple(slice(b.start + p.start, b.start + p.stop) for p, b in zip(part, box, strict=True))


def whole_box(state: Tensor) -> Box:
    """All cells of ``(B, C, *spatial)``."""
    return tuple(slice(0, n) for n in state.shape[2:])
