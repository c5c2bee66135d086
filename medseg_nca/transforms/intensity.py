"""The intensities that models see.

Plain numpy: on small volumes MONAI's way through tensors and their thread pool takes many times
longer than the arithmetic, and this runs before every prediction.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from medseg_nca.config import PreprocessPlan
from medseg_nca.errors import ConfigError

# ITU-R BT.709, as skimage.color.rgb2gray.
_LUMINANCE = np.array([0.2125, 0.7154, 0.0721], np.float32)


def to_grey(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """``(3, *S)`` colours to their luminance ``(1, *S)``; one channel stays as it is."""
    if image.shape[0] == 1:
        return image
    return np.tensordot(_LUMINANCE, image, axes=1)[None].astype(np.float32)


def normalise(image: NDArray[np.float32], plan: PreprocessPlan) -> NDArray[np.float32]:
    """Bring the channels of ``(C, *S)`` to a common range, each on its own.

    zscore: mean 0, standard deviation 1, over the voxels that are not 0 if the plan crops to them.
    percentile: the plan's percentiles become 0 and 1. ct: clipped to the range of the training
    foreground and scaled by its mean and standard deviation. With ``clip`` what lies beyond the
    percentiles is brought to them first.

    Raises:
        ConfigError: if "ct" lacks the statistics of the training data.
    """
    if plan.normalise == "none":
        return image
    if plan.normalise == "ct":
        return _ct(image, plan)
    ranges = [_range(channel, plan) for channel in image]
    if plan.normalise == "percentile":
        return np.stack([_to_unit(c, r, plan.clip) for c, r in zip(image, ranges, strict=True)])
    if plan.clip:
        image = np.stack([np.clip(c, *r) for c, r in zip(image, ranges, strict=True)])
    return np.stack([_zscore(channel, plan.crop == "nonzero") for channel in image])


def _zscore(channel: NDArray[np.float32], nonzero: bool) -> NDArray[np.float32]:
    mask = channel != 0 if nonzero else None
    values = channel if mask is None else channel[mask]
    if not values.size:
        return channel
    mean, sd = values.mean(dtype=np.float64), values.std(dtype=np.float64)
    scaled = ((channel - mean) / (sd or 1.0)).astype(np.float32)
    return scaled if mask is None else np.where(mask, scaled, np.float32(0))


def _range(channel: NDArray[np.float32], plan: PreprocessPlan) -> tuple[float, float]:
    """The plan's percentiles, or all of the range where those fall together (sparse images)."""
    values = channel[channel != 0] if plan.crop == "nonzero" else channel
    values = values if values.size else channel
    low, high = np.percentile(values, plan.percentiles)
    if not low < high:
        low, high = values.min(), values.max()
    if plan.crop == "nonzero":
        low, high = min(low, 0.0), max(high, 0.0)  # what is cut away as 0 stays 0
    return float(low), float(high)


def _to_unit(
    channel: NDArray[np.float32], ends: tuple[float, float], clip: bool
) -> NDArray[np.float32]:
    low, high = ends
    if not low < high:
        return np.zeros_like(channel)
    scaled = ((channel - low) / (high - low)).astype(np.float32)
    return np.clip(scaled, 0, 1) if clip else scaled


def _ct(image: NDArray[np.float32], plan: PreprocessPlan) -> NDArray[np.float32]:
    if plan.statistics is None or len(plan.statistics) != image.shape[0]:
        raise ConfigError("normalise 'ct' needs the statistics of every channel in the plan.")
    parts = [
        (np.clip(channel, known.low, known.high) - known.mean) / (known.sd or 1.0)
        for channel, known in zip(image, plan.statistics, strict=True)
    ]
    return np.stack(parts).astype(np.float32)
