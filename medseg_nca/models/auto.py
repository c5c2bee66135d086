"""Choose the levels of an automaton from the plan of a data set, if the settings give none."""

from __future__ import annotations

from math import prod

from medseg_nca.config.model import LevelSettings
from medseg_nca.config.plan import PreprocessPlan

# Ranges of the number of steps of the coarsest, the middle and the finest levels. The coarsest
# has most, because it must carry signals through the whole image.
_COARSE_STEPS, _STEPS, _FINE_STEPS = (10, 16), (8, 12), (6, 10)
# A finer level is trained on patches once it has more cells than this.
_MANY_CELLS = {2: 64 * 64, 3: 24 * 24 * 24}
_PATCH = {2: 64, 3: 16}


def auto_levels(plan: PreprocessPlan) -> tuple[LevelSettings, ...]:
    """Return a level for each scale of the plan, coarse to fine; large levels learn on patches."""
    levels = []
    for index, scale in enumerate(plan.scales or ((1,) * plan.dims,)):
        grid = [-(-n // s) for n, s in zip(plan.crop_size, scale, strict=True)]
        last = index == len(plan.scales) - 1
        steps = _COARSE_STEPS if index == 0 else (_FINE_STEPS if last else _STEPS)
        large = index > 0 and prod(grid) > _MANY_CELLS[plan.dims]
        patch = tuple(min(n, _PATCH[plan.dims]) for n in grid) if large else None
        levels.append(LevelSettings(scale=scale, steps=steps, patch=patch))
    return tuple(levels)
