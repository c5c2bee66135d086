"""A volume as a model sees it, and the way back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medseg_nca.config import LabelTable, PreprocessPlan
from medseg_nca.errors import ImageError
from medseg_nca.io.grid import grid_difference
from medseg_nca.io.volume import Volume
from medseg_nca.transforms.encode import encode_labels
from medseg_nca.transforms.grid import (
    SPACING_HINT,
    Trace,
    resampling_fault,
    restore,
    restored_slabs,
    to_plan_grid,
    turn_back,
)
from medseg_nca.transforms.intensity import normalise, to_grey

__all__ = [
    "Preparation",
    "Trace",
    "check_axes",
    "prepare",
    "restore",
    "restored_slabs",
    "turn_back",
]


@dataclass(frozen=True)
class Preparation:
    """A prepared case.

    Attributes:
        image: float32 ``(C, *S)``.
        label: uint8, ``(1, *S)`` with channel numbers, or ``(L, *S)`` for a multi-label table.
        trace: leads back to the source grid.
    """

    image: NDArray[np.float32]
    label: NDArray[np.uint8] | None
    trace: Trace


def prepare(
    volume: Volume,
    plan: PreprocessPlan,
    label: Volume | None = None,
    labels: LabelTable | None = None,
) -> Preparation:
    """Bring a volume, and its label map, to the grid and the intensities of a plan.

    Orientation, crop to the non-zero part, spacing, normalisation; 2D and 3D. Intensities are
    interpolated linearly. A label map whose spacing changes keeps the volumes of its labels
    (:func:`.resample.resample_labels`).

    Args:
        volume: ``(C, *S)``.
        plan: what to do.
        label: ``(1, *S)`` with source numbers, on the grid of ``volume``.
        labels: what the numbers mean; needed with ``label``.

    Raises:
        ImageError: if the axes or channels are not the plan's, the image is constant or out of all
            proportion to the plan's spacing, the label map lies on another grid or holds numbers
            that the table does not know.
    """
    _check(volume, plan)
    image = to_grey(volume.array) if plan.colour == "grey" else volume.array
    encoded = None
    if label is not None:
        if labels is None:
            raise ValueError("prepare: a label map needs its label table")
        encoded = _encode(volume, label, labels)
    moved, target, trace = to_plan_grid(volume, plan, image, encoded)
    if target is not None:
        target = np.ascontiguousarray(target)
    return Preparation(normalise(moved, plan), target, trace)


def check_axes(volume: Volume, plan: PreprocessPlan) -> None:
    """Refuse a slice where volumes are needed, and the other way round.

    Raises:
        ImageError: with the number of axes that are needed.
    """
    if volume.dims != plan.dims:
        raise ImageError(
            f"{volume.name}: has {volume.dims} axes {volume.shape}; {plan.dims} are needed.",
            hint="Slices make no volume and a volume no slice: use a model for this kind of image.",
        )


def _check(volume: Volume, plan: PreprocessPlan) -> None:
    check_axes(volume, plan)
    name = volume.name
    count, wanted = volume.array.shape[0], len(plan.channels)
    if count != wanted and not (plan.colour == "grey" and count in (1, 3)):
        raise _other_channels(name, count, plan)
    fault = resampling_fault(volume.shape, volume.spacing, plan.spacing)
    if fault is not None:
        raise ImageError(f"{name}: {fault}.", hint=SPACING_HINT)
    spatial = tuple(range(1, volume.array.ndim))
    low = volume.array.min(spatial)
    if (low == volume.array.max(spatial)).all():
        raise ImageError(
            f"{name}: is constant (every value is {low[0]:g}): there is nothing to see in it.",
            hint="Check how the file was exported.",
        )


def _other_channels(name: str, count: int, plan: PreprocessPlan) -> ImageError:
    found = f"is 4D with {count} volumes" if plan.dims == 3 and count > 1 else f"channels: {count}"
    return ImageError(
        f"{name}: {found}; needed: {len(plan.channels)} ({', '.join(plan.channels)}).",
        hint="preprocess.colour=grey takes colour and grey pictures alike."
        if plan.dims == 2
        else "Give the channels that the data set or model names, in that order.",
    )


def _encode(volume: Volume, label: Volume, table: LabelTable) -> NDArray[np.uint8]:
    difference = grid_difference(volume, label)
    if difference:
        raise ImageError(
            f"{label.name}: the label map lies on another grid than its image "
            f"{volume.name}: {difference}.",
            hint="Resample the label map to its image, or mend the header.",
        )
    try:
        return encode_labels(label.array[0], table)
    except ImageError as error:
        raise ImageError(f"{label.name}: {error.message}", hint=error.hint) from error
