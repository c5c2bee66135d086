"""Label maps of arrays, for callers that have no files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg_nca.errors import ImageError
from medseg_nca.inference.bundle import LoadedModel
from medseg_nca.inference.predictor import Predictor
from medseg_nca.io.volume import Volume
from medseg_nca.tasks.segmentation.reference import model_affine


def label_maps(model: LoadedModel, value: Any) -> NDArray[np.int32]:
    """Segment images that lie in memory.

    Args:
        model: of the task.
        value: array ``(B, C, *spatial)`` on the model's grid, or a mapping with that array as
            "image" and, for another grid, a 4x4 "affine" (voxel to RAS+ mm).

    Returns:
        Label maps ``(B, *spatial)`` with the numbers of the label table.

    Raises:
        ImageError: if the array does not fit the model.
    """
    predictor = Predictor(model)
    plan = model.spec.plan
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
    maps = [predictor.predict(Volume(sample, grid)).label_map.array[0] for sample in image]
    return np.stack(maps).astype(np.int32)
