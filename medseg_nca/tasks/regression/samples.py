"""Training samples of pairs: views of the image, and the target of each cell."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medseg_nca.config.data import AugmentSettings
from medseg_nca.models.views import ViewSpec
from medseg_nca.tasks.regression.pairs import PreparedPairs
from medseg_nca.training.level_samples import LevelSamples
from medseg_nca.training.warped_case import Scale, WarpedCase, coarser, gathered, mixed
from medseg_nca.transforms.warp import Warp

# The most voxels of a case, among those whose target is known, on which patches are centred.
_POINTS = 4096


class RealCase(WarpedCase):
    """An image and its real-valued target.

    Args:
        image: the image ``(C, *S)`` float32.
        target: the standardised target ``(K, *S)`` float32, NaN where it is unknown.
    """

    def __init__(self, image: NDArray[np.float32], target: NDArray[np.float32]) -> None:
        super().__init__(image)
        known = ~np.isnan(target)
        both = np.concatenate([np.where(known, target, 0), known]).astype(np.float32)
        self._targets: dict[Scale, Tensor] = {(1,) * len(self.shape): torch.from_numpy(both)}
        places = np.flatnonzero(known.any(0))
        if len(places) > _POINTS:
            places = np.sort(np.random.default_rng(0).choice(places, _POINTS, replace=False))
        self._points = places

    @property
    def nbytes(self) -> int:
        """The memory that the case takes now, in bytes."""
        kept = sum(tensor.nbytes for tensor in self._targets.values())
        return super().nbytes + kept + self._points.nbytes

    def voxel(self, chance: random.Random) -> Scale | None:
        """Draw a voxel whose target is known."""
        if not len(self._points):
            return None
        place = np.unravel_index(self._points[chance.randrange(len(self._points))], self.shape)
        return tuple(int(v) for v in place)

    def target(self, warp: Warp, starts: Scale, cells: Scale, scale: Scale) -> Tensor:
        """Return the target ``(2 K, *cells)`` of a sample.

        The first K channels are the sum of the known targets in each cell, divided by the size of
        the cell. The other K channels are the share of each cell whose target is known. The ratio
        of both is the mean of the known targets. Outside of the image nothing is known.
        """
        whole = warp.cells(starts, cells, scale)
        if whole is not None:
            return gathered(self._target_at(scale), whole, outside=0.0)
        return mixed(self._target_at, warp, starts, cells, scale, "zeros")

    def _target_at(self, scale: Scale) -> Tensor:
        if scale not in self._targets:
            finest = self._targets[(1,) * len(scale)]
            self._targets[scale] = coarser(scale, finest, "constant")
        return self._targets[scale]


class PairSamples(LevelSamples[RealCase]):
    """Draws training samples from prepared pairs, as :class:`LevelSamples` describes."""

    def __init__(
        self,
        pairs: PreparedPairs,
        case_ids: Sequence[str],
        specs: Sequence[ViewSpec],
        augment: AugmentSettings,
        seed: int,
        foreground: float,
    ) -> None:
        super().__init__(pairs.facts.plan, case_ids, specs, augment, seed, foreground)
        self.pairs = pairs

    def load(self, case_id: str) -> RealCase:
        """Implement :meth:`LevelSamples.load`; the voxels that padding adds have no target."""
        image, target = self.pairs.load(case_id)
        around = self.padding(image.shape[1:])
        if around is not None:
            image = np.pad(image, around, "edge")
            target = np.pad(target, around, constant_values=np.nan)
        return RealCase(image, target)
