"""What the intensities of an image are like: a few numbers, of a part of its voxels."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, product
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg_nca.config import Settings
from medseg_nca.config.bounds import MAX_GRADES

# The ends of a range of intensities, in percent; a few odd voxels do not count.
ENDS = (1.0, 99.0)
# The most voxels of a channel that are looked at, and the most of one line of its border.
_SAMPLE, _LINE = 12_000, 64


class ImageIntensities(Settings):
    """The intensities of one channel of one image.

    ``low``, ``median`` and ``high`` are the 1st, 50th and 99th percentile, in the numbers of the
    file. All others stay the same if an image is multiplied by a number above 0, or a number is
    added to it. ``place`` is where the median lies and ``border`` where the median of the image's
    border lies, 0 being ``low`` and 1 ``high``; ``floor`` is the share of voxels that have exactly
    the lowest intensity; ``grades`` is how many different intensities there are, up to 256;
    ``rough`` is the mean square of the difference of neighbours over that of any two voxels, along
    the axis where it is least: white noise has 1. ``whole`` says that all are whole numbers.
    """

    low: float
    median: float
    high: float
    place: float
    border: float
    floor: float
    rough: float
    grades: int
    whole: bool


def measure_intensities(
    image: NDArray[Any], *, nonzero: bool = False
) -> tuple[ImageIntensities, ...]:
    """Measure each channel of an image ``(C, *S)``, by at most 12,000 of its voxels.

    Args:
        image: any real numbers; what is not finite is passed over.
        nonzero: measure only the box around the voxels that are not 0 in some channel, as a plan
            that crops to it cuts it out.
    """
    if nonzero:
        image = image[(slice(None), *_box(image))]
    with np.errstate(over="ignore", invalid="ignore"):
        return tuple(_measured(channel) for channel in image)


def _measured(channel: NDArray[Any]) -> ImageIntensities:
    steps = _steps(channel.shape)
    values = np.sort(_numbers(channel[tuple(slice(None, None, step) for step in steps)]))
    if not values.size:
        values = np.zeros(1)
    low, median, high = (float(v) for v in np.percentile(values, (ENDS[0], 50, ENDS[1])))
    border = _numbers(np.concatenate(list(_lines(channel))))
    place = _between(np.array([median]), low, high)[0]
    edge = float(np.median(_between(border, low, high))) if border.size else 0.0
    return ImageIntensities(
        low=low,
        median=median,
        high=high,
        place=float(place),
        border=edge,
        floor=float(np.searchsorted(values, values[0], side="right") / values.size),
        rough=_rough(channel, steps, low, high),
        grades=min(int(np.count_nonzero(np.diff(values))) + 1, MAX_GRADES),
        whole=bool((values == np.rint(values)).all()),
    )


def _numbers(values: NDArray[Any]) -> NDArray[np.float64]:
    flat = np.asarray(values, np.float64).reshape(-1)
    return flat[np.isfinite(flat)]


def _between(values: NDArray[np.float64], low: float, high: float) -> NDArray[np.float64]:
    """Where values lie between two others, from 0 to 1."""
    span = high - low
    if not 0 < span < np.inf:
        return np.zeros_like(values)
    return np.clip((values - low) / span, 0, 1)


def _steps(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The distance of the voxels that are looked at, per axis: few enough, spread evenly."""
    steps = [1] * len(shape)
    left = list(shape)
    while prod(left) > _SAMPLE:
        longest = left.index(max(left))
        steps[longest] += max(steps[longest] // 4, 1)
        left[longest] = -(-shape[longest] // steps[longest])
    return tuple(steps)


def _lines(channel: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """The edges of the box that an image is; in 2D its sides.

    The faces of a volume are not taken: those at the two ends of a body show what is inside it.
    """
    for fixed in combinations(range(channel.ndim), channel.ndim - 1):
        for ends in product((0, -1), repeat=len(fixed)):
            at = dict(zip(fixed, ends, strict=True))
            line = channel[tuple(at.get(axis, slice(None)) for axis in range(channel.ndim))]
            yield line[:: -(-line.size // _LINE) or 1]


def _rough(channel: NDArray[Any], steps: tuple[int, ...], low: float, high: float) -> float:
    """See :class:`ImageIntensities`; values beyond the ends count as the ends. At most it is 2."""
    found = []
    for axis, count in enumerate(channel.shape):
        if count < 2:
            continue
        pair = []
        for first in (0, 1):
            part = [slice(None, None, step) for step in steps]
            part[axis] = slice(first, count - 1 + first, steps[axis])
            values = np.asarray(channel[tuple(part)], np.float64)
            pair.append(_between(np.nan_to_num(values), low, high))
        spread = float(np.concatenate(pair).var())
        if spread > 0:
            found.append(float(np.square(pair[0] - pair[1]).mean()) / (2 * spread))
    return min((*found, 2.0)) if found else 0.0


def _box(image: NDArray[Any]) -> tuple[slice, ...]:
    """The box around the voxels that are not 0 in some channel; all of it if there is none."""
    steps = _steps(image.shape[1:])
    filled = (image[(slice(None), *(slice(None, None, step) for step in steps))] != 0).any(0)
    if not filled.any():
        return tuple(slice(None) for _ in steps)
    box = []
    for axis, step in enumerate(steps):
        others = tuple(k for k in range(filled.ndim) if k != axis)
        where = np.flatnonzero(filled.any(others))
        box.append(slice(int(where[0]) * step, int(where[-1]) * step + 1))
    return tuple(box)
