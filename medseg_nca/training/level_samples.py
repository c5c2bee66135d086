"""Training samples of cases: what each level of the model looks at, and its targets.

Sample number ``n`` of a run is a function of (seed, n) alone. The cases are visited in a new random
order in every epoch. Nothing is computed that no level looks at.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch.utils.data import get_worker_info

from medseg_nca.config.data import AugmentSettings
from medseg_nca.config.plan import PreprocessPlan
from medseg_nca.models.geometry import Region
from medseg_nca.models.views import View, ViewSpec, draw_regions, first_patches
from medseg_nca.nca.fire import mix
from medseg_nca.training.learner import Batch
from medseg_nca.training.warped_case import WarpedCase
from medseg_nca.transforms.intensity_changes import Change, Place, apply, draw_changes
from medseg_nca.transforms.warp import Warp, check_flips, draw_warp

_ORDER, _CHANGE, _FOCUS = 1, 2, 3
_CACHE_BYTES = 2e9
# A voxel to look at may lie outside of a sample that is smaller than its image.
_TRIES = 8

Voxel = tuple[int, ...]
Held = TypeVar("Held", bound=WarpedCase)


class LevelSamples(ABC, Generic[Held]):
    """Draws training samples of one size from cases.

    Args:
        plan: of the preprocessing; its ``crop_size`` is the size of a sample.
        case_ids: the training part of the split.
        specs: what the levels of the model look at.
        augment: random changes.
        seed: of the run.
        foreground: chance that a patch is centred on a voxel that the case draws.

    Raises:
        ConfigError: if an axis is to be flipped that does not exist.
    """

    def __init__(
        self,
        plan: PreprocessPlan,
        case_ids: Sequence[str],
        specs: Sequence[ViewSpec],
        augment: AugmentSettings,
        seed: int,
        foreground: float,
    ) -> None:
        check_flips(augment, plan.dims)
        self.plan = plan
        self.case_ids = tuple(case_ids)
        self.specs = tuple(specs)
        self.augment = augment
        self.seed = seed
        self.foreground = foreground
        self.size = plan.crop_size
        self._kept: OrderedDict[str, Held] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        """Leave the loaded cases out, so that they are not sent to other processes."""
        return {**self.__dict__, "_kept": OrderedDict()}

    @abstractmethod
    def load(self, case_id: str) -> Held:
        """Read a case; one smaller than a sample is padded (:meth:`padding`)."""

    def padding(self, shape: Sequence[int]) -> list[tuple[int, int]] | None:
        """What is added around ``(C, *S)`` of this shape ``(*S)``, as the predictor adds it."""
        missing = [max(s - n, 0) for s, n in zip(self.size, shape, strict=True)]
        return [(0, 0), *((m // 2, m - m // 2) for m in missing)] if any(missing) else None

    def case_arrays(self, case_id: str) -> Held:
        """Return the arrays of a case; the cases used last are kept, as many as fit into memory."""
        kept = self._kept
        if case_id in kept:
            kept.move_to_end(case_id)
            return kept[case_id]
        kept[case_id] = self.load(case_id)
        worker = get_worker_info()
        budget = _CACHE_BYTES / (1 if worker is None else worker.num_workers)
        while len(kept) > 1 and sum(case.nbytes for case in kept.values()) > budget:
            kept.popitem(last=False)
        return kept[case_id]

    def case_of(self, index: int) -> str:
        """Return the id of the case of the ``index``-th sample."""
        epoch, position = divmod(index, len(self.case_ids))
        order = list(self.case_ids)
        random.Random(mix(self.seed, _ORDER, epoch)).shuffle(order)
        return order[position]

    def __getitem__(self, index: int) -> Batch:
        """Return a sample: "views" and "targets" ``(n, K, *cells)`` by level, and its "case"."""
        case_id = self.case_of(index)
        case = self.case_arrays(case_id)
        chance = random.Random(mix(self.seed, _FOCUS, index))
        held = self._focus(case, chance)
        start = [self._start(*axis, chance) for axis in self._axes(case, held)]
        rng = np.random.default_rng(mix(self.seed, _CHANGE, index))
        warp = draw_warp(self.augment, self.size, start, self.plan.usual_spacing, rng)
        changes = draw_changes(self.augment, case.reference, rng)
        focus = [None if held is None else warp.voxel(held)]
        if held is not None and focus[0] is None:  # the change of space has moved it out
            focus = [self._focus_inside(case, warp, chance)]
        while len(focus) < first_patches(self.specs):
            focus.append(self._focus_inside(case, warp, chance))
        regions = draw_regions(self.specs, self.size, focus, chance)
        return {
            "views": [
                self._view(case, warp, changes, spec.scale, region)
                for spec, region in zip(self.specs, regions, strict=True)
            ],
            "targets": [
                torch.stack([
                    case.target(warp, first, region.size, spec.scale) for first in region.starts
                ])
                for spec, region in zip(self.specs, regions, strict=True)
            ],
            "case": [case_id],
        }  # fmt: skip

    def _view(
        self, case: Held, warp: Warp, changes: list[Change], scale: Voxel, region: Region
    ) -> View:
        views = [
            apply(
                changes, case.view(warp, first, region.size, scale), Place(scale, first, self.size)
            )
            for first in region.starts
        ]
        return View(torch.stack(views), torch.tensor(region.starts))

    def _axes(self, case: Held, voxel: Voxel | None) -> list[tuple[int, int, int, int | None]]:
        """For each axis, return voxels of case and sample, the largest cell, the voxel to hold."""
        held = voxel or (None,) * len(self.size)
        return list(zip(case.shape, self.size, self.specs[0].scale, held, strict=True))

    def _start(
        self, there: int, size: int, cell: int, held: int | None, chance: random.Random
    ) -> int:
        """Draw where a sample begins on an axis.

        The start is a multiple of the largest cell, so that levels see the same cells as in an
        inference.
        """
        last = max(-(-(there - size) // cell), 0)
        first = 0
        if held is not None:
            first = min(max(-(-(held - size + 1) // cell), 0), last)
            last = max(min(held // cell, last), first)
        return chance.randint(first, last) * cell

    def _focus_inside(self, case: Held, warp: Warp, chance: random.Random) -> Voxel | None:
        """Draw a voxel of the sample to learn from; None leaves the patch to chance."""
        for _ in range(_TRIES):
            voxel = self._focus(case, chance)
            if voxel is None or (inside := warp.voxel(voxel)) is not None:
                return None if voxel is None else inside
        return None

    def _focus(self, case: Held, chance: random.Random) -> Voxel | None:
        """Draw a voxel of the case to learn from; None leaves the patch to chance."""
        return None if chance.random() >= self.foreground else case.voxel(chance)


def join(samples: Sequence[Batch]) -> Batch:
    """Join samples of views and targets to one batch: those of a level, sample by sample."""
    levels = range(len(samples[0]["views"]))
    return {
        "views": [
            View(
                *(torch.cat(parts) for parts in zip(*(s["views"][k] for s in samples), strict=True))
            )
            for k in levels
        ],
        "targets": [torch.cat([s["targets"][k] for s in samples]) for k in levels],
        "case": [case for s in samples for case in s["case"]],
    }
