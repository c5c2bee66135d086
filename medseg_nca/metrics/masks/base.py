"""What a metric of two masks must offer, and what all of them share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from medseg_nca.metrics.overlap import BoolArray, Counts
from medseg_nca.metrics.surface import (
    FloatArray,
    crop_to_union,
    element_distances,
    surface_distances,
)


@dataclass(frozen=True)
class MaskPair:
    """Prediction and truth of one label, with what is computed once for all metrics.

    Attributes:
        prediction: boolean, ``(x, y)`` or ``(x, y, z)``.
        truth: boolean, the same shape.
        spacing: mm per axis, in array order.
        tolerance: the distance in mm up to which two surfaces agree, for NSD.
    """

    prediction: BoolArray
    truth: BoolArray
    spacing: tuple[float, ...]
    tolerance: float

    @cached_property
    def counts(self) -> Counts:
        """Voxels of both masks."""
        return Counts.of(self.prediction, self.truth)

    @property
    def voxel_size(self) -> float:
        """Size of a voxel in mL; a 2D image has no volume, so the area in mm^2 takes its place."""
        return float(np.prod(self.spacing)) * (1e-3 if self.truth.ndim == 3 else 1.0)

    @property
    def diagonal(self) -> float:
        """Length of the image's diagonal in mm: no two surfaces in it are farther apart."""
        return float(np.linalg.norm(np.multiply(self.truth.shape, self.spacing)))

    @cached_property
    def cropped(self) -> tuple[BoolArray, BoolArray]:
        """Both masks in the box around their union, with a margin of one background voxel."""
        return crop_to_union(self.prediction, self.truth)

    @cached_property
    def distances(self) -> tuple[FloatArray, FloatArray]:
        """How far, in mm, each surface voxel of the prediction is from the truth, and back.

        Raises:
            ValueError: if a mask is empty.
        """
        return surface_distances(*self.cropped, self.spacing)

    @cached_property
    def areas_and_distances(self) -> tuple[FloatArray, FloatArray]:
        """Areas in mm^2 (2D: lengths in mm) of both surfaces' elements, and how far each is off.

        Raises:
            ValueError: if a mask is empty.
        """
        return element_distances(*self.cropped, self.spacing)


@dataclass(frozen=True)
class Metric:
    """How a metric is computed and shown.

    Attributes:
        title: short name for tables and figures.
        compute: the value for two masks, None where the metric says nothing about them. Either mask
            may be empty; :func:`for_both` takes care of that where a metric needs two.
        unit: "mm", "mL" or "" for ratios; volumes are areas in mm^2 for 2D images.
        better: which values are better; "zero" for signed differences, None for plain facts.
        order: place among the columns: the smallest is the first; equal ones go by name.
        in_report: whether the tables of ``report.html`` have a column of it.
        rule: one sentence for the list of rules in ``metrics.json`` and the report, for example
            what becomes of empty masks.
    """

    title: str
    compute: Callable[[MaskPair], float | None]
    unit: str = ""
    better: Literal["higher", "lower", "zero"] | None = "higher"
    order: float = 1000.0
    in_report: bool = True
    rule: str = ""

    def heading(self, dims: int = 3) -> str:
        """Title with its unit, for images of that many axes."""
        unit = "mm²" if dims == 2 and self.unit == "mL" else self.unit
        return f"{self.title} ({unit})" if unit else self.title


def for_both(
    compute: Callable[[MaskPair], float], *, missed: Callable[[MaskPair], float]
) -> Callable[[MaskPair], float | None]:
    """Compute a value of two masks that both have voxels; say what stands for it otherwise.

    Args:
        compute: called if both masks have voxels.
        missed: called if only one has. Without a voxel in either, the value is None.
    """

    def value(pair: MaskPair) -> float | None:
        found, true = pair.counts.prediction, pair.counts.truth
        if found and true:
            return compute(pair)
        return missed(pair) if found or true else None

    return value
