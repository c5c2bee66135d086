"""The stored prediction of a model, by which another machine checks that the model is unchanged.

The image is made from a formula, so ``model.json`` holds only the label map, compressed. Machines
differ in the last bits of a sum, which may decide a voxel between two labels. So a model counts as
the same if nearly all voxels agree.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from medseg_nca.inference.bundle import LoadedModel
from medseg_nca.inference.predictor import Predictor
from medseg_nca.inference.synthetic import FORMULA, synthetic_volume
from medseg_nca.tasks.base import Agreement
from medseg_nca.tracking.stored_answer import packed, stored_for, unpacked

AGREEMENT = 0.995  # share of voxels; other processors and torch versions stay far above it
LABEL_TYPE = np.dtype("<u2")


def make_reference(loaded: LoadedModel) -> dict[str, str]:
    """Predict the image of the formula, for :attr:`ModelSpec.reference`.

    Returns:
        "volume" (the formula's name), "shape", "sha256" and "label_map" of the prediction.
    """
    labels = _predict(loaded)
    return {
        "volume": FORMULA,
        "shape": "x".join(map(str, labels.shape)),
        "sha256": _digest(labels),
        "label_map": packed(labels),
    }


def check_reference(loaded: LoadedModel) -> Agreement:
    """Predict the image of the formula again, and compare with the stored prediction.

    Raises:
        ModelError: if the model has no stored prediction, or one that cannot be read.
    """
    stored = stored_for(loaded, "volume", FORMULA, "prediction")
    labels = _predict(loaded)
    if _digest(labels) == stored.get("sha256"):
        return Agreement(True, True, "identical")
    kept = unpacked(stored, "label_map", labels, loaded, "prediction")
    share = float((labels == kept).mean())
    return Agreement(False, share >= AGREEMENT, f"{share:.2%} of the voxels agree")


def _predict(loaded: LoadedModel) -> NDArray[np.uint16]:
    """Return the predicted label map ``(*shape)`` of the image of the formula."""
    settings = loaded.spec.prediction.changed(uncertainty=0)
    prediction = Predictor(loaded, settings, keeps_budget=False).predict(
        synthetic_volume(loaded.spec.plan)
    )
    return np.ascontiguousarray(prediction.label_map.array[0].astype(LABEL_TYPE))


def _digest(labels: NDArray[np.uint16]) -> str:
    return hashlib.sha256(str(labels.shape).encode() + labels.tobytes()).hexdigest()
