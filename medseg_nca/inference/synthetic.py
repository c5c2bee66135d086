"""Volumes without files: one made from a formula, and arrays that a caller has in memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg_nca.config import PreprocessPlan
from medseg_nca.errors import ImageError
from medseg_nca.io.volume import Volume

FORMULA = "waves-1"
SIDE = {2: 64, 3: 24}  # voxels an axis: an answer stays within a few kilobytes


def synthetic_volume(plan: PreprocessPlan) -> Volume:
    """Return the image of which the stored prediction is made, from a formula.

    Each channel shows interfering waves and a bright ball, without random numbers. The array is
    ``(C, *shape)`` float32, with the plan's usual spacing and intensities in the plan's range.
    """
    shape = tuple(min(n, SIDE[plan.dims]) for n in plan.crop_size)
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    radius = np.sqrt(sum(axis**2 for axis in axes))
    ball = 1 / (1 + np.exp(12 * (radius - 0.6)))
    channels = []
    for index in range(len(plan.channels)):
        waves = sum(np.cos((5 + 2 * k + index) * axis + k) for k, axis in enumerate(axes))
        unit = 0.5 * ball + 0.25 * (1 + waves / len(axes))
        low, high = _range(plan, index)
        channels.append(low + (high - low) * unit)
    return Volume(np.stack(channels).astype(np.float32), model_affine(plan))


def model_affine(plan: PreprocessPlan) -> NDArray[np.float64]:
    """Return the affine of a volume at the origin that has the plan's own spacing."""
    return np.diag([*plan.usual_spacing, *(1.0,) * (4 - plan.dims)])


def volumes_of(value: Any, plan: PreprocessPlan) -> list[Volume]:
    """Return the images of a batch that lies in memory.

    Args:
        value: array ``(B, C, *spatial)`` on the model's grid, or a mapping with that array as
            "image" and, for another grid, a 4x4 "affine" (voxel to RAS+ mm).
        plan: of the model.

    Raises:
        ImageError: if the array does not fit the plan.
    """
    image, affine = value, None
    if isinstance(value, Mapping):
        if "image" not in value:
            raise ImageError('The input needs the key "image"; "affine" may be given too.')
        image, affine = value["image"], value.get("affine")
    image = np.asarray(image)
    channels = len(plan.channels)
    if image.ndim != plan.dims + 2 or image.shape[1] != channels:
        raise ImageError(
            f"The image has shape {image.shape}; (batch, channels, *spatial) with {channels} "
            f"channels and {plan.dims} spatial axes is needed."
        )
    grid = model_affine(plan) if affine is None else np.asarray(affine, dtype=np.float64)
    return [Volume(sample, grid) for sample in image]


def _range(plan: PreprocessPlan, channel: int) -> tuple[float, float]:
    if plan.statistics is None:
        return 0.0, 1000.0
    statistics = plan.statistics[min(channel, len(plan.statistics) - 1)]
    return statistics.low, statistics.high
