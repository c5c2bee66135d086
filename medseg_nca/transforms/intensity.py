"""The intensities that models see.

Plain numpy: on small volumes MONAI's way through tensors and their thread pool takes many times
longer than the arithmetic, and this runs before every prediction.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg_nca.config import PreprocessPlan
from medseg_nca.errors import ConfigError

# Values that are computed in float64 at a time.
_SLAB = 1 << 20
# ITU-R BT.709, as skimage.color.rgb2gray.
_LUMINANCE = np.array([0.2125, 0.7154, 0.0721], np.float32)


def to_grey(image: NDArray[Any]) -> NDArray[Any]:
    """``(3, *S)`` colours to their luminance ``(1, *S)``; one channel stays as it is."""
    if image.shape[0] == 1:
        return image
    return np.tensordot(_LUMINANCE, np.asarray(image, np.float32), axes=1)[None].astype(np.float32)


def normalise(image: NDArray[Any], plan: PreprocessPlan) -> NDArray[np.float32]:
    """Bring the channels of ``(C, *S)``, any real numbers, to a common range, each on its own.

    zscore: mean 0, standard deviation 1, over the voxels that are not 0 if the plan crops to them.
    percentile: the plan's percentiles become 0 and 1. ct: clipped to the range of the training
    foreground and scaled by its mean and standard deviation. With ``clip`` what lies beyond the
    percentiles is brought to them first.

    Besides the result there is room for one more channel at most: a large image is gone through in
    slabs.

    Returns:
        A new array, contiguous.

    Raises:
        ConfigError: if "ct" lacks the statistics of the training data.
    """
    if plan.normalise == "ct" and (
        plan.statistics is None or len(plan.statistics) != image.shape[0]
    ):
        raise ConfigError("normalise 'ct' needs the statistics of every channel in the plan.")
    result = np.array(image, np.float32, order="C")
    for index, channel in enumerate(result):
        _normalise(channel, index, plan)
    return result


def _normalise(channel: NDArray[np.float32], index: int, plan: PreprocessPlan) -> None:
    """Change one channel in place."""
    if plan.normalise == "ct" and plan.statistics is not None:
        known = plan.statistics[index]
        np.clip(channel, known.low, known.high, out=channel)
        channel -= known.mean
        channel /= known.sd or 1.0
    elif plan.normalise == "percentile":
        _to_unit(channel, _range(channel, plan), plan.clip)
    elif plan.normalise == "zscore":
        if plan.clip:
            np.clip(channel, *_range(channel, plan), out=channel)
        _zscore(channel, plan.crop == "nonzero")


def _slabs(channel: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
    """Views of the parts of a contiguous channel, one after the other."""
    flat = channel.reshape(-1)
    for start in range(0, flat.size, _SLAB):
        yield flat[start : start + _SLAB]


def _zscore(channel: NDArray[np.float32], nonzero: bool) -> None:
    count, total, squares = 0, 0.0, 0.0
    for slab in _slabs(channel):
        values = slab[slab != 0] if nonzero else slab
        count, total = count + values.size, total + float(values.sum(dtype=np.float64))
    if not count:
        return
    mean = total / count
    for slab in _slabs(channel):
        values = slab[slab != 0] if nonzero else slab
        squares += float(np.square(values.astype(np.float64) - mean).sum())
    sd = (squares / count) ** 0.5 or 1.0
    for slab in _slabs(channel):
        scaled = (slab.astype(np.float64) - mean) / sd
        slab[:] = np.where(slab != 0, scaled, 0.0) if nonzero else scaled


def _range(channel: NDArray[np.float32], plan: PreprocessPlan) -> tuple[float, float]:
    """The plan's percentiles, or all of the range where those fall together (sparse images)."""
    nonzero = plan.crop == "nonzero"
    values = channel[channel != 0] if nonzero else channel.flatten()
    values = values if values.size else channel.flatten()
    low, high = np.percentile(values, plan.percentiles, overwrite_input=True)
    if not low < high:
        low, high = values.min(), values.max()
    if nonzero:
        low, high = min(low, 0.0), max(high, 0.0)  # voxels that are cut away as 0 stay 0
    return float(low), float(high)


def _to_unit(channel: NDArray[np.float32], ends: tuple[float, float], clip: bool) -> None:
    low, high = ends
    if not low < high:
        channel[...] = 0
        return
    channel -= low
    channel /= high - low
    if clip:
        np.clip(channel, 0, 1, out=channel)
