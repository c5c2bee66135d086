"""The first state of each level, for who takes the steps of a model one by one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from medseg_nca.models.level_start import LevelStart

if TYPE_CHECKING:
    from medseg_nca.models.multilevel import MultiLevelNca


def first_state(model: MultiLevelNca, image: Tensor, level: int, before: Tensor | None) -> Tensor:
    """Return the state ``(B, C, *cells)`` that a level begins with, on its whole grid.

    It is that of an inference that is recorded: a model with focus computes all cells.

    Args:
        model: the automaton.
        image: ``(B, in_channels, *spatial)``.
        level: index of the level.
        before: last state of the level before; None for the first level.
    """
    box = tuple(slice(0, n) for n in model.grids(image.shape[2:])[level])
    start = LevelStart(
        image, model.scales[level], model.factor(level), box, model.settings.cell.channels,
        image.dtype, model.settings.shrink, before,
        None if before is None else model.context_shift(level, before, image.dtype),
    )  # fmt: skip
    return start.state(box)
