"""Levels for a data set, where the settings leave them to the plan."""

from __future__ import annotations

from math import prod

from medseg_nca.config.model import LevelSettings
from medseg_nca.config.plan import PreprocessPlan

# Steps drawn in training: the coarsest level has to carry signals through the whole image.
_COARSE_STEPS, _STEPS, _FINE_STEPS = (10, 16), (8, 12), (6, 10)
# A finer level is trained on patches once it has more cells than this.
_MANY_CELLS = {2: 64 * 64, 3: 24 * 24 * 24}
_PATCH = {2: 64, 3: 16}
# So many patches of the coarsest such level are drawn in a sample: finer levels learn as much from
# them as from several samples, and coarser levels run once (docs/recipe.md).
_PATCHES = {2: 3, 3: 3}


def auto_levels(plan: PreprocessPlan) -> tuple[LevelSettings, ...]:
    """One level for each scale of the plan, coarse to fine; the large ones learn on patches."""
    levels: list[LevelSettings] = []
    for index, scale in enumerate(plan.scales or ((1,) * plan.dims,)):
        grid = [-(-n // s) for n, s in zip(plan.crop_size, scale, strict=True)]
        last = index == len(plan.scales) - 1
        steps = _COARSE_STEPS if index == 0 else (_FINE_STEPS if last else _STEPS)
        large = index > 0 and prod(grid) > _MANY_CELLS[plan.dims]
        patch = tuple(min(n, _PATCH[plan.dims]) for n in grid) if large else None
        first = patch is not None and all(level.patch is None for level in levels)
        patches = _PATCHES[plan.dims] if first else 1
        levels.append(LevelSettings(scale=scale, steps=steps, patch=patch, patches=patches))
    return tuple(levels)
