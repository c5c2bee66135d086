"""What the preprocessing must know of a data set before it can plan: measured case by case."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from medseg_nca.config import Settings
from medseg_nca.config.plan import ChannelStatistics
from medseg_nca.errors import ImageError
from medseg_nca.io.grid import grid_difference
from medseg_nca.io.volume import Volume
from medseg_nca.transforms.encode import value_counts
from medseg_nca.transforms.grid import Grid, axis_codes
from medseg_nca.transforms.intensity_measures import ImageIntensities, measure_intensities

# Percentiles kept of each case's foreground: dense at the ends, where "ct" clips.
_TAIL = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 1.0, 1.5, 2.0, 3.0, 5.0)
PERCENTILES = (*_TAIL, *map(float, range(10, 91, 5)), *(100 - p for p in reversed(_TAIL)))
_BISECTIONS = 40


class ChannelFingerprint(Settings):
    """Intensities of one channel of one case, whole and inside the labels.

    ``foreground`` holds the :data:`PERCENTILES`, none where there is no label.
    """

    minimum: float
    maximum: float
    mean: float
    sd: float
    foreground: tuple[float, ...] = ()
    foreground_mean: float = 0.0
    foreground_variance: float = 0.0


class CaseFingerprint(Settings):
    """One case on its source grid.

    shape, spacing (mm), codes (where each axis points) and box (shape of the part that is not 0)
    per array axis; labels: voxels of each number, background included, None without a label map;
    centres: where the centre of each number but 0 lies, from 0 to 1 of each array axis;
    intensities: of each channel; inside: the same of the box around what is not 0.
    """

    shape: tuple[int, ...]
    spacing: tuple[float, ...]
    codes: tuple[str, ...]
    box: tuple[int, ...]
    channels: tuple[ChannelFingerprint, ...]
    labels: dict[int, int] | None = None
    centres: dict[int, tuple[float, ...]] = Field(default_factory=dict)
    intensities: tuple[ImageIntensities, ...] = ()
    inside: tuple[ImageIntensities, ...] = ()

    @property
    def foreground(self) -> int:
        """Voxels that are not background."""
        return sum(count for value, count in (self.labels or {}).items() if value != 0)

    @property
    def box_share(self) -> float:
        """How much of the image the box around its voxels that are not 0 holds."""
        return prod(self.box) / prod(self.shape)


def measure(volume: Volume, label: Volume | None) -> CaseFingerprint:
    """Measure one case.

    Raises:
        ImageError: if the label map lies on another grid than the image.
    """
    if label is not None:
        _check_grids(volume, label)
    mask = None if label is None else label.array[0] != 0
    box, intensities = _box(volume.array), measure_intensities(volume.array)
    bordered = box != volume.shape
    return CaseFingerprint(
        shape=volume.shape,
        spacing=tuple(round(v, 6) for v in volume.spacing),
        codes=axis_codes(Grid.of(volume)),
        box=box,
        channels=tuple(_channel(channel, mask) for channel in volume.array),
        labels=None if label is None else value_counts(label.array),
        centres={} if label is None else label_centres(label.array[0]),
        intensities=intensities,
        inside=measure_intensities(volume.array, nonzero=True) if bordered else intensities,
    )


def label_centres(array: NDArray[Any]) -> dict[int, tuple[float, ...]]:
    """The centre of each number but 0 in a label map ``(*S)``, from 0 to 1 of each axis.

    The middle of an image is 0.5 on every axis. Slab by slab, over voxels that are not 0 only:
    scipy's centre of mass would hold the whole map as float64, once for each axis.
    """
    values = np.array([value for value in value_counts(array) if value != 0])
    sums, counts = np.zeros((len(values), array.ndim)), np.zeros(len(values))
    for first, slab in enumerate(array):
        places = np.nonzero(slab)
        codes = np.searchsorted(values, slab[places])
        found = np.bincount(codes, minlength=len(values))
        counts += found
        sums[:, 0] += found * first
        for axis, place in enumerate(places, start=1):
            sums[:, axis] += np.bincount(codes, weights=place, minlength=len(values))
    middles = (sums / counts[:, None] + 0.5) / np.array(array.shape)
    return {
        int(value): tuple(round(float(m), 6) for m in middle)
        for value, middle in zip(values, middles, strict=True)
    }


def foreground_statistics(
    cases: Mapping[str, CaseFingerprint],
) -> tuple[ChannelStatistics, ...] | None:
    """Mean, SD and the 0.5th and 99.5th percentile of each channel inside all cases' labels.

    Returns None if no case has foreground.
    """
    used = [case for case in cases.values() if case.foreground]
    if not used:
        return None
    weights = np.array([case.foreground for case in used], float)
    statistics = []
    for channel in range(min(len(case.channels) for case in used)):
        parts = [case.channels[channel] for case in used]
        means = np.array([part.foreground_mean for part in parts])
        variances = np.array([part.foreground_variance for part in parts])
        mean = float(np.average(means, weights=weights))
        variance = float(np.average(variances + (means - mean) ** 2, weights=weights))
        known = [part.foreground for part in parts]
        low, high = (_percentile(known, weights, wanted) for wanted in (0.5, 99.5))
        statistics.append(ChannelStatistics(mean=mean, sd=variance**0.5, low=low, high=high))
    return tuple(statistics)


def summarise(cases: Mapping[str, CaseFingerprint]) -> dict[str, Any]:
    """Describe a data set for ``fingerprint.json``: sizes, spacings, intensities and labels."""
    found = list(cases.values())
    values = sorted({value for case in found for value in case.labels or {} if value != 0})
    return {
        "cases": len(found),
        "labelled": sum(case.labels is not None for case in found),
        "shape": _spread(np.array([case.shape for case in found])),
        "spacing_mm": _spread(np.array([case.spacing for case in found])),
        "box_share": _spread(np.array([case.box_share for case in found])),
        "orientations": _counts("".join(case.codes) for case in found),
        "channels": [
            {
                "minimum": min(case.channels[c].minimum for case in found),
                "maximum": max(case.channels[c].maximum for case in found),
                "mean": float(np.mean([case.channels[c].mean for case in found])),
                "sd": float(np.mean([case.channels[c].sd for case in found])),
            }
            for c in range(min(len(case.channels) for case in found))
        ],
        "foreground": [s.model_dump() for s in foreground_statistics(cases) or ()],
        "labels": {str(value): _label(found, value) for value in values},
    }


def _counts(names: Iterable[str]) -> dict[str, int]:
    """Count equal names, the most frequent first."""
    return dict(Counter(names).most_common())


def _label(cases: list[CaseFingerprint], value: int) -> dict[str, Any]:
    size = [
        (case.labels or {})[value] * float(np.prod(case.spacing))
        for case in cases
        if value in (case.labels or {})
    ]
    unit = "mm2" if len(cases[0].shape) == 2 else "mm3"
    return {"cases": len(size), f"median_{unit}": float(np.median(size))}


def _spread(values: NDArray[Any]) -> dict[str, Any]:
    return {
        "minimum": values.min(0).tolist(),
        "median": np.median(values, axis=0).tolist(),
        "maximum": values.max(0).tolist(),
    }


def _check_grids(volume: Volume, label: Volume) -> None:
    difference = grid_difference(volume, label)
    if difference:
        raise ImageError(
            f"{label.sources[0]}: the label map lies on another grid than its image "
            f"{volume.sources[0]}: {difference}.",
            hint="Resample the label map to its image, or mend the header.",
        )


def _channel(channel: NDArray[Any], mask: NDArray[np.bool_] | None) -> ChannelFingerprint:
    inside = channel[mask] if mask is not None else channel[:0]
    known: dict[str, Any] = {}
    if inside.size:
        quantiles = np.percentile(inside, PERCENTILES)
        known = {
            "foreground": tuple(float(f"{v:.6g}") for v in quantiles),
            "foreground_mean": float(inside.mean(dtype=np.float64)),
            "foreground_variance": float(inside.var(dtype=np.float64)),
        }
    return ChannelFingerprint(
        minimum=float(channel.min()),
        maximum=float(channel.max()),
        mean=float(channel.mean(dtype=np.float64)),
        sd=float(channel.std(dtype=np.float64)),
        **known,
    )


def _percentile(
    known: list[tuple[float, ...]], weights: NDArray[np.float64], wanted: float
) -> float:
    """A percentile of the mixture of distributions that are given by their percentiles.

    Found by bisection: the share of all voxels below a value is known by interpolation.
    """
    low, high = min(q[0] for q in known), max(q[-1] for q in known)
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        shares = [np.interp(middle, q, PERCENTILES, left=0, right=100) for q in known]
        if np.average(shares, weights=weights) < wanted:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _box(array: NDArray[Any]) -> tuple[int, ...]:
    """Shape of the smallest box around all voxels that are not 0 in some channel."""
    filled = (array != 0).any(0)
    if not filled.any():
        return array.shape[1:]
    sizes = []
    for axis in range(filled.ndim):
        others = tuple(k for k in range(filled.ndim) if k != axis)
        where = np.flatnonzero(filled.any(others))
        sizes.append(int(where[-1] - where[0]) + 1)
    return tuple(sizes)
