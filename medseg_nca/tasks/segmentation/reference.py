"""A stored prediction, by which another machine sees that a model still does what it did.

The volume is made from a formula, so the model carries only its label map, compressed, in
``model.json``. Machines differ in the last bits of a sum, and a voxel between two labels may fall
either way; so a model is the same when nearly all voxels agree, not only when all do.
"""

from __future__ import annotations

import base64
import hashlib
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medseg_nca.config import PreprocessPlan
from medseg_nca.errors import ModelError
from medseg_nca.inference.bundle import SPEC, LoadedModel
from medseg_nca.inference.predictor import Predictor
from medseg_nca.io.volume import Volume
from medseg_nca.tasks.base import Agreement

FORMULA = "waves-1"
SIDE = {2: 64, 3: 24}  # voxels an axis: the label map stays within a few kilobytes
AGREEMENT = 0.995  # share of voxels; other processors and torch versions stay far above it
LABEL_TYPE = np.dtype("<u2")


def synthetic_volume(plan: PreprocessPlan) -> Volume:
    """Return the volume that a plan's stored predictions are made on.

    Interfering waves and a bright ball, per channel, without any random numbers: ``(C, *shape)``
    float32, on the plan's usual spacing, in the range of its intensities.
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
    """Return the affine of a volume that lies on a plan's own grid, at the origin."""
    return np.diag([*plan.usual_spacing, *(1.0,) * (4 - plan.dims)])


def _range(plan: PreprocessPlan, channel: int) -> tuple[float, float]:
    if plan.statistics is None:
        return 0.0, 1000.0
    statistics = plan.statistics[min(channel, len(plan.statistics) - 1)]
    return statistics.low, statistics.high


def make_reference(loaded: LoadedModel) -> dict[str, str]:
    """Predict the synthetic volume, for :attr:`ModelSpec.reference`.

    Returns:
        "volume" (the formula's name), "shape", "sha256" and "label_map" of the prediction.
    """
    labels = _predict(loaded)
    return {
        "volume": FORMULA,
        "shape": "x".join(map(str, labels.shape)),
        "sha256": _digest(labels),
        "label_map": base64.b64encode(zlib.compress(labels.tobytes(), 9)).decode("ascii"),
    }


def check_reference(loaded: LoadedModel) -> Agreement:
    """Predict the synthetic volume again and compare with the stored prediction.

    Raises:
        ModelError: if the model carries no stored prediction, or one that cannot be read.
    """
    stored = loaded.spec.reference
    where = loaded.folder / SPEC
    if not stored:
        raise ModelError(
            f"{where}: holds no stored prediction.",
            hint="Register the model with `medseg-nca models register`; that stores one.",
        )
    if stored.get("volume") != FORMULA:
        raise ModelError(
            f"{where}: its stored prediction is on {stored.get('volume')!r}; this package makes "
            f"{FORMULA!r}.",
            hint="Use the medseg-nca version that registered the model.",
        )
    labels = _predict(loaded)
    if _digest(labels) == stored.get("sha256"):
        return Agreement(True, True, "identical")
    share = float((labels == _decode(stored, labels.shape, where)).mean())
    return Agreement(False, share >= AGREEMENT, f"{share:.2%} of the voxels agree")


def _predict(loaded: LoadedModel) -> NDArray[np.uint16]:
    """The label map ``(*shape)`` of the synthetic volume."""
    settings = loaded.spec.prediction.changed(uncertainty=0)
    prediction = Predictor(loaded, settings, keeps_budget=False).predict(
        synthetic_volume(loaded.spec.plan)
    )
    return np.ascontiguousarray(prediction.label_map.array[0].astype(LABEL_TYPE))


def _digest(labels: NDArray[np.uint16]) -> str:
    return hashlib.sha256(str(labels.shape).encode() + labels.tobytes()).hexdigest()


def _decode(stored: dict[str, str], shape: tuple[int, ...], where: Path) -> NDArray[np.uint16]:
    size = int(np.prod(shape)) * LABEL_TYPE.itemsize
    try:
        # Never more than the label map needs: the file may come from anywhere.
        raw = zlib.decompressobj().decompress(base64.b64decode(stored["label_map"]), size)
        return np.frombuffer(raw, LABEL_TYPE).reshape(shape)
    except (KeyError, ValueError, zlib.error) as error:
        raise ModelError(f"{where}: its stored prediction is damaged ({error}).") from error
