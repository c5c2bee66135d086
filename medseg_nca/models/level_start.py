"""What a level of an automaton begins with: its first state, made part by part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from medseg_nca.models.focus import Box, outward, repeat
from medseg_nca.models.geometry import level_view
from medseg_nca.nca.window import cut


@dataclass(frozen=True)
class LevelStart:
    """The first state of a level, which is made part by part when it is needed.

    Attributes:
        image: the whole image, ``(B, in_channels, *spatial)``.
        scale: size of a cell in voxels, per axis.
        factor: how many times finer the grid is than that of the level before, per axis.
        box: the part of the level's grid that the level runs on.
        channels: number of channels of the state.
        kind: type of the numbers of the state.
        coarse: state of the level before, ``(B, C, *spatial)``, cut to the box; None lets the
            hidden channels begin at zero.
        shift: added to the hidden channels, ``(B, hidden)``; None adds nothing.
        cells: bool ``(B, *spatial)``, True for the cells of ``coarse`` that are awake; None means
            all.
    """

    image: Tensor
    scale: tuple[int, ...]
    factor: tuple[int, ...]
    box: Box
    channels: int
    kind: torch.dtype
    coarse: Tensor | None = None
    shift: Tensor | None = None
    cells: Tensor | None = None

    @property
    def size(self) -> tuple[int, ...]:
        """Cells of the box per axis."""
        return tuple(b.stop - b.start for b in self.box)

    def state(self, part: Box) -> Tensor:
        """Return the first state of a part of the box, ``(B, C, *part)``.

        Its image channels are the image, its hidden channels come from the coarser state.
        """
        wide = self._whole_cells(part)
        view = level_view(self.image, self.scale, outward(wide, self.box))
        batch, images = view.shape[:2]
        state = torch.empty(
            (batch, *view.shape[2:], self.channels), dtype=self.kind, device=view.device
        )
        state[..., :images] = view.movedim(1, -1)
        if self.coarse is None:
            state[..., images:] = 0
        else:
            hidden = cut(self.coarse, self._coarser(wide)).movedim(1, -1)[..., images:]
            if self.shift is not None:
                rows = self.shift.view(batch, *(1,) * len(part), -1)
                hidden = hidden.to(view.dtype) + rows
            _write_enlarged(state, images, hidden, self.factor)
        inside = tuple(
            slice(p.start - w.start, p.stop - w.start) for p, w in zip(part, wide, strict=True)
        )
        return cut(state.movedim(-1, 1), inside)

    def awake(self, part: Box) -> Tensor | None:
        """Return which cells of a part may update, bool ``(B, *part)``; None means all cells."""
        if self.cells is None:
            return None
        wide = self._whole_cells(part)
        cells = repeat(cut(self.cells, self._coarser(wide)), self.factor)
        return cut(
            cells,
            (slice(p.start - w.start, p.stop - w.start) for p, w in zip(part, wide, strict=True)),
        )

    def _whole_cells(self, part: Box) -> Box:
        """Return the part, widened to whole cells of the level before."""
        return tuple(
            slice(p.start // f * f, -(-p.stop // f) * f)
            for p, f in zip(part, self.factor, strict=True)
        )

    def _coarser(self, wide: Box) -> Box:
        return tuple(
            slice(w.start // f, w.stop // f) for w, f in zip(wide, self.factor, strict=True)
        )


def _write_enlarged(target: Tensor, first: int, cells: Tensor, factor: Sequence[int]) -> None:
    """Write each cell of ``cells (B, *spatial, C)`` ``factor`` times along each axis.

    They are written into ``target (B, *larger, first + C)``, in its channels from ``first`` on.
    """
    batch, *sizes, channels = cells.shape
    many = [v for n, f in zip(sizes, factor, strict=True) for v in (n, f)]
    one = [v for n in sizes for v in (n, 1)]
    blocks = target.view(batch, *many, first + channels)[..., first:]
    blocks.copy_(cells.reshape(batch, *one, channels))
