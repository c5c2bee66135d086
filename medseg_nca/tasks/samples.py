"""Training samples of a prepared data set: order, crop, augmentation, focus.

Sample number ``n`` of a run is a function of (seed, n) alone. The cases are visited in a new random
order in every epoch.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Sequence
from functools import lru_cache
from math import prod
from typing import Any

import numpy as np
import torch
from monai.transforms import Compose, RandCropByPosNegLabeld, RandSpatialCropd, SpatialPadd
from monai.utils.type_conversion import convert_to_tensor

from medseg_nca.config.data import AugmentSettings
from medseg_nca.datasets.prepared import PreparedStore
from medseg_nca.nca.fire import mix
from medseg_nca.transforms.augment import augmentation

_ORDER, _CHANGE, _FOCUS = 1, 2, 3
_CACHE_BYTES = 2e9


class SampleSource:
    """Draws training samples of one size from the cases of a store.

    Args:
        store: the prepared data set.
        case_ids: the training part of the split.
        augment: random changes.
        seed: of the run.
        foreground: chance that a crop, and the patches in it, are centred on a label.
    """

    def __init__(
        self,
        store: PreparedStore,
        case_ids: Sequence[str],
        augment: AugmentSettings,
        seed: int,
        foreground: float,
    ) -> None:
        self.store = store
        self.case_ids = tuple(case_ids)
        self.seed = seed
        self.foreground = foreground
        self.size = store.plan.crop_size
        self.augment = (
            augmentation(augment, store.plan.dims, store.plan.spacing) if augment.enabled else None
        )
        self.pad, self.crop = self._pad(), self._crop()
        self._load = lru_cache(maxsize=self._kept_cases())(store.load)

    def _kept_cases(self) -> int:
        """A small data set stays in memory; of a larger one, as many cases as the budget holds."""
        voxels = [prod(case.shape) for case in self.store.cases]
        bytes_each = max(voxels, default=1) * (4 * self.store.plan.in_channels + 1)
        return max(1, int(_CACHE_BYTES // bytes_each))

    def _pad(self) -> Compose:
        return Compose([SpatialPadd(["image", "label"], self.size, mode=["edge", "constant"])])

    def _crop(self) -> Compose:
        anywhere = RandSpatialCropd(["image", "label"], self.size, random_size=False)
        if self.foreground == 0:
            return Compose([anywhere])
        near = RandCropByPosNegLabeld(
            ["image", "label"], "any", self.size, pos=self.foreground, neg=1 - self.foreground
        )
        return Compose([near])

    def case_of(self, index: int) -> str:
        """The case of the ``index``-th sample."""
        epoch, position = divmod(index, len(self.case_ids))
        order = list(self.case_ids)
        random.Random(mix(self.seed, _ORDER, epoch)).shuffle(order)
        return order[position]

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return image ``(C, *size)``, label ``(L, *size)``, focus ``(dims,)``, the case's id."""
        case_id = self.case_of(index)
        image, label = self._load(case_id)
        data: Any = {"image": torch.from_numpy(image), "label": torch.from_numpy(label)}
        data = self._fit(data, mix(self.seed, _CHANGE, index))
        if self.augment is not None:
            self.augment.set_random_state(seed=mix(self.seed, _CHANGE, index))
            data = self.augment(data)
        # A MetaTensor would take its metadata through every operation of the model.
        label = convert_to_tensor(data["label"], track_meta=False)
        image = convert_to_tensor(data["image"], track_meta=False)
        return {
            "image": image.float().contiguous(),
            "label": label.contiguous(),
            "focus": self._focus(label, random.Random(mix(self.seed, _FOCUS, index))),
            "case": case_id,
        }

    def _fit(self, data: Any, seed: int) -> Any:
        shape = data["image"].shape[1:]
        if any(n < s for n, s in zip(shape, self.size, strict=True)):
            data = self.pad(data)
        if tuple(data["image"].shape[1:]) == tuple(self.size):
            return data
        self.crop.set_random_state(seed=seed)
        # One channel: of several, MONAI would take the first for the background.
        data = {**data, "any": data["label"].amax(0, keepdim=True)}
        with warnings.catch_warnings():
            # A case without any label is cropped anywhere; MONAI warns of it every time.
            warnings.simplefilter("ignore")
            data = self.crop(data)
        return data[0] if isinstance(data, list) else data

    def _focus(self, label: torch.Tensor, rng: random.Random) -> torch.Tensor:
        """A voxel of a label (labels drawn evenly), or -1 where chance is to decide."""
        nowhere = torch.full((label.ndim - 1,), -1)
        if rng.random() >= self.foreground:
            return nowhere
        flat = label.numpy()
        present = np.flatnonzero(np.bincount(flat[0].ravel())[1:]) + 1
        masks = [flat[0] == v for v in present] if flat.shape[0] == 1 else [c > 0 for c in flat]
        masks = [m for m in masks if m.any()]
        if not masks:
            return nowhere
        mask = masks[rng.randrange(len(masks))]
        where = np.flatnonzero(mask)
        voxel = np.unravel_index(where[rng.randrange(len(where))], mask.shape)
        return torch.tensor([int(v) for v in voxel])
