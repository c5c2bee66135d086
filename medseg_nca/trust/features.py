"""What a model's answer to an image, and to the image shifted by a voxel, say of its worth.

All features are cheap: they need two label maps, and the probabilities of one pass. Each is a plain
number that means the same for every image. The mean and the spread of each over clean images, which
a model carries for each label, make them comparable between labels.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

BoolArray = NDArray[np.bool_]
Array = NDArray[np.float32]
Features = dict[str, float]

# Stands for a quantity of an empty mask, where there is none.
_NOTHING = 0.0
# Of larger images a part is looked at where the whole picture counts: this many values, and this
# many voxels along each axis around the middle.
_VALUES, _SIDE = 2**20, 128


@dataclass(frozen=True)
class Certainty:
    """What the probabilities of one pass say of one label, over its voxels in that pass.

    Attributes:
        probability: mean probability of the label in its voxels.
        entropy: mean entropy in its voxels, in nats.
        outside: sum of the label's probability outside its voxels, as a share of its voxels.
    """

    probability: float
    entropy: float
    outside: float


@dataclass(frozen=True)
class Observation:
    """One image as the model sees it, with the answers to it.

    Attributes:
        image: prepared image, float32 ``(C, *S)``.
        spacing: size of a voxel in mm, per axis.
        answer: the answer, integers ``(*S)``.
        second: the answer to the image shifted by a voxel, shifted back, ``(*S)``.
        values: the numbers that mean a label in the answers, by name of the label.
        certainty: of the second answer, by name of the label.
    """

    image: Array
    spacing: tuple[float, ...]
    answer: NDArray[Any]
    second: NDArray[Any]
    values: Mapping[str, Collection[int]]
    certainty: Mapping[str, Certainty]


def measure(seen: Observation) -> dict[str, Features]:
    """Return the features of each label, all labels with the same names in the same order."""
    whole = {**_intensities(seen.image), **_texture(seen.image)}
    middle = _middle(seen.answer != 0)
    found: dict[str, Features] = {}
    for name, values in seen.values.items():
        numbers = sorted(values)
        mask = np.isin(seen.answer, numbers)
        found[name] = {
            **_agreement(mask, np.isin(seen.second, numbers)), **_certain(seen.certainty[name]),
            **_shape(mask, seen.spacing, middle), **_inside(seen.image, mask), **whole,
        }  # fmt: skip
    joint = float(np.mean([one["agreement"] for one in found.values()]))
    return {name: {**one, "joint_agreement": joint} for name, one in found.items()}


def dice(first: BoolArray, second: BoolArray) -> float:
    """Return the Dice of two masks; 1 if both are empty."""
    total = int(np.count_nonzero(first)) + int(np.count_nonzero(second))
    return 2 * int(np.count_nonzero(first & second)) / total if total else 1.0


def _agreement(mask: BoolArray, second: BoolArray) -> Features:
    sizes = [np.log1p(np.count_nonzero(one)) for one in (mask, second)]
    return {"agreement": dice(mask, second), "growth": float(sizes[1] - sizes[0])}


def _certain(certainty: Certainty) -> Features:
    inside, outside = certainty.probability, certainty.outside
    return {
        "probability": inside,
        "entropy": certainty.entropy,
        # The Dice that is expected if the probabilities are right: 2 sum(p in P) / (|P| + sum(p)).
        "expected_dice": 2 * inside / (1 + inside + outside),
    }


def _middle(mask: BoolArray) -> NDArray[np.float64]:
    """Return the centre of a mask in voxels; that of the image for an empty mask."""
    found = []
    for axis, n in enumerate(mask.shape):
        counts = mask.sum(axis=tuple(a for a in range(mask.ndim) if a != axis), dtype=np.int64)
        total = counts.sum()
        found.append(float(counts @ np.arange(n) / total) if total else (n - 1) / 2)
    return np.array(found)


def _window(mask: BoolArray, margin: int) -> tuple[slice, ...]:
    """Return the smallest window that holds a mask, with a margin as far as the image goes.

    It is the whole image for an empty mask.
    """
    window = []
    for axis in range(mask.ndim):
        there = np.flatnonzero(mask.any(axis=tuple(a for a in range(mask.ndim) if a != axis)))
        if not len(there):
            return tuple(slice(0, n) for n in mask.shape)
        window.append(slice(max(int(there[0]) - margin, 0), int(there[-1]) + 1 + margin))
    return tuple(window)


def _shape(mask: BoolArray, spacing: tuple[float, ...], middle: NDArray[np.float64]) -> Features:
    """Size, place and form of a mask."""
    # Imported late: reading a model, and predicting without an estimate, need nothing of it.
    from scipy.ndimage import binary_erosion
    from scipy.ndimage import label as components

    axes = range(mask.ndim)
    voxels = int(np.count_nonzero(mask))
    found: Features = {"log_volume": float(np.log(voxels * float(np.prod(spacing)) + 1))}
    own, window = _middle(mask), _window(mask, 0)
    for axis in axes:
        length = window[axis].stop - window[axis].start if voxels else 0
        found[f"place_{axis}"] = float(own[axis] / max(mask.shape[axis] - 1, 1))
        found[f"offset_{axis}"] = float((own[axis] - middle[axis]) * spacing[axis])
        found[f"extent_{axis}"] = float(np.log1p(length * spacing[axis]))
    if not voxels:
        return {**found, "parts": _NOTHING, "largest": _NOTHING, "surface": _NOTHING,
                "cut_off": _NOTHING}  # fmt: skip
    tight = np.pad(mask[window], 1)
    numbered, count = components(tight)
    largest = int(np.bincount(numbered.ravel())[1:].max())
    inner = int(np.count_nonzero(binary_erosion(tight)))
    edge = sum(
        int(np.count_nonzero(np.take(mask, end, axis=axis))) for axis in axes for end in (0, -1)
    )
    found["parts"] = float(np.log(count))
    found["largest"] = largest / voxels
    # Of bodies of one form, this share does not depend on the size.
    found["surface"] = float((voxels - inner) / voxels ** ((mask.ndim - 1) / mask.ndim))
    found["cut_off"] = edge / voxels
    return found


def _inside(image: Array, mask: BoolArray) -> Features:
    """Intensities in a mask and just around it, in the first channel."""
    from scipy.ndimage import binary_dilation

    if not mask.any():
        return {"mean_inside": _NOTHING, "sd_inside": _NOTHING, "step_at_border": _NOTHING}
    window = _window(mask, 2)
    part, inside = image[0][window], mask[window]
    ring = binary_dilation(inside, iterations=2) & ~inside
    values = part[inside]
    around = part[ring].mean() if ring.any() else values.mean()
    return {
        "mean_inside": float(values.mean()),
        "sd_inside": float(values.std()),
        "step_at_border": float(values.mean() - around),
    }


def _intensities(image: Array) -> Features:
    """Form of the histogram of the prepared image, all channels together."""
    values = image.reshape(-1)
    values = values[:: max(len(values) // _VALUES, 1)]
    marks = np.percentile(values, (1, 10, 25, 50, 75, 90, 99))
    mean, sd = float(values.mean()), float(values.std()) or 1.0
    names = ("p01", "p10", "p25", "p50", "p75", "p90", "p99")
    skew = float((((values - mean) / sd) ** 3).mean())
    return {**dict(zip(names, map(float, marks), strict=True)), "skewness": skew}


def _texture(image: Array) -> Features:
    """Differences of neighbours along each axis, against the spread: noise, blur, thick slices."""
    starts = [max(n - _SIDE, 0) // 2 for n in image.shape[1:]]
    image = image[(slice(None), *(slice(start, start + _SIDE) for start in starts))]
    spread = float(image.std()) or 1.0
    found: Features = {}
    for axis in range(1, image.ndim):
        first = np.diff(image, axis=axis)
        second = np.diff(first, axis=axis)
        found[f"slope_{axis - 1}"] = _log_share(first, spread)
        found[f"bend_{axis - 1}"] = _log_share(second, spread)
    return found


def _log_share(values: NDArray[Any], spread: float) -> float:
    return float(np.log(np.abs(values).mean() / spread + 1e-4)) if values.size else _NOTHING
