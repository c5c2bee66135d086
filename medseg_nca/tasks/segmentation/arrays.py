"""Segment arrays in memory, for callers that have no files."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg_nca.inference.bundle import LoadedModel
from medseg_nca.inference.predictor import Predictor
from medseg_nca.inference.synthetic import volumes_of


def label_maps(model: LoadedModel, value: Any) -> NDArray[np.int32]:
    """Segment images that lie in memory.

    Args:
        model: a segmentation model.
        value: array ``(B, C, *spatial)`` on the model's grid, or a mapping with that array as
            "image" and, for another grid, a 4x4 "affine" (voxel to RAS+ mm).

    Returns:
        Label maps ``(B, *spatial)`` with the numbers of the label table.

    Raises:
        ImageError: if the array does not fit the model.
    """
    predictor = Predictor(model)
    volumes = volumes_of(value, model.spec.plan)
    maps = [predictor.predict(volume).label_map.array[0] for volume in volumes]
    return np.stack(maps).astype(np.int32)
