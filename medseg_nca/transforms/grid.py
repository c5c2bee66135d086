"""The geometric part of the preprocessing: orientation, crop, spacing; and the way back.

A step is left out when it would change nothing, so a volume that already has the right grid passes
through untouched. Axes are turned and cut as views; spacing is changed slab by slab.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from medseg_nca.config import PreprocessPlan
from medseg_nca.errors import ImageError
from medseg_nca.io.volume import Volume
from medseg_nca.transforms.resample import SLAB, Mapping, resample, resample_labels, slabs

AXIS_LABELS = (("L", "R"), ("P", "A"), ("I", "S"))
# The number of float32 values in the largest file that is read (io.checks.MAX_BYTES).
MOST_VOXELS = 2**31
SPACING_HINT = "Check the voxel sizes in the image's header: is their unit right?"
# Spacings closer than this (relative) are the same: headers are rounded.
SAME_SPACING = 1e-3

Affine = tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Grid:
    """A voxel grid: shape per axis, and the 4x4 affine to RAS mm as nested tuples."""

    shape: tuple[int, ...]
    affine: Affine

    @classmethod
    def of(cls, volume: Any) -> Grid:
        """The grid of a Volume, or of a channel-first array or tensor with an affine."""
        rows = np.asarray(volume.affine, dtype=np.float64).tolist()
        shape = volume.shape if isinstance(volume, Volume) else volume.shape[1:]
        return cls(tuple(int(n) for n in shape), tuple(tuple(row) for row in rows))

    @property
    def matrix(self) -> NDArray[np.float64]:
        """The affine as an array."""
        return np.array(self.affine)

    @property
    def spacing(self) -> tuple[float, ...]:
        """Voxel size in mm per axis."""
        lengths = np.linalg.norm(self.matrix[:3, :3], axis=0)
        return tuple(float(v) for v in lengths[: len(self.shape)])


@dataclass(frozen=True)
class Trace:
    """Which grids a volume went through; numbers only, so it can be stored and sent.

    Attributes:
        source: of the file.
        oriented: after its axes were turned and flipped.
        crop: first voxel of the cropped part on the oriented grid.
        cropped: that part.
        prepared: what the model sees.
    """

    source: Grid
    oriented: Grid
    crop: tuple[int, ...]
    cropped: Grid
    prepared: Grid


def resampling_fault(
    shape: Sequence[int], spacing: Sequence[float], target: Sequence[float] | None
) -> str | None:
    """Say why a grid cannot be brought to another spacing: it would have too many voxels.

    Args:
        shape: voxels per axis.
        spacing: mm per axis.
        target: the other spacing; None leaves the grid as it is.
    """
    if target is None:
        return None
    count = prod(shape) * prod(spacing) / prod(target)
    if count <= MOST_VOXELS:
        return None
    own, wanted = (" x ".join(f"{v:.4g}" for v in values) for values in (spacing, target))
    return (
        f"the spacing {own} mm brought to {wanted} mm makes {count:.3g} voxels; "
        f"at most {MOST_VOXELS:,} can be used"
    )


def to_plan_grid(
    volume: Volume,
    plan: PreprocessPlan,
    image: NDArray[Any],
    label: NDArray[np.uint8] | None = None,
) -> tuple[NDArray[Any], NDArray[np.uint8] | None, Trace]:
    """Bring an image, and its label maps, to the grid of the plan.

    Args:
        volume: gives the affine.
        plan: orientation, crop and spacing.
        image: ``(C, *S)`` on the volume's grid; decides on the crop.
        label: ``(L, *S)`` on the same grid, each channel a label map.

    Returns:
        The image, where the spacing changes linearly interpolated (float32); the label maps, as
        :func:`.resample.resample_labels` brings them; both perhaps views; and the trace.

    Raises:
        ImageError: if the plan's spacing would make more voxels of it than any image has.
    """
    source = Grid.of(volume)
    turn = _turn(source, plan.orientation)
    oriented = _turned_grid(source, turn)
    image = _turned(image, turn)
    window = _crop(image, plan)
    image = image[(slice(None), *window)]
    if label is not None:
        label = _turned(label, turn)[(slice(None), *window)]
    cropped = _part(oriented, window)
    prepared = _spaced(cropped, plan, volume.name)
    if prepared != cropped:
        to_cropped = Mapping.between(cropped.matrix, prepared.matrix, prepared.shape)
        image = resample(image, to_cropped)
        label = None if label is None else resample_labels(label, to_cropped)
    trace = Trace(source, oriented, tuple(part.start for part in window), cropped, prepared)
    return image, label, trace


def restore(array: NDArray[Any], trace: Trace, fill: float | tuple[float, ...] = 0.0) -> Any:
    """Take values on the prepared grid back to the grid of the source file.

    Axes and crop are undone exactly, the spacing by linear interpolation at the source's voxel
    centres. When the grid did not change, the values come back bit by bit.

    Args:
        array: numbers ``(K, *prepared shape)``.
        trace: of the preparation.
        fill: value outside the cropped part, for all channels or one each.

    Returns:
        ``(K, *source shape)``, of the array's type.
    """
    if trace.prepared != trace.cropped:
        array = resample(array, _to_prepared(trace)).astype(array.dtype, copy=False)
    return turn_back(array, trace, fill)


def restored_slabs(array: NDArray[Any], trace: Trace) -> Iterator[tuple[slice, NDArray[Any]]]:
    """Undo the spacing only, slab by slab of the first axis of the cropped part.

    The values decide on labels: where voxels lie halfway between two others, one side is preferred,
    so that an object keeps its size (:meth:`.resample.Mapping.beside_ties`).

    Yields:
        Which part of that axis, and its values ``(K, part, *rest)``; see :func:`turn_back`.
    """
    if trace.prepared != trace.cropped:
        yield from slabs(array, _to_prepared(trace).beside_ties())
        return
    thickness = max(SLAB * array.shape[1] // max(array.size, 1), 1)
    for start in range(0, array.shape[1], thickness):
        part = slice(start, min(start + thickness, array.shape[1]))
        yield part, array[:, part]


def turn_back(array: NDArray[Any], trace: Trace, fill: float | tuple[float, ...] = 0.0) -> Any:
    """Undo crop and orientation, exactly: ``(K, *cropped shape)`` to ``(K, *source shape)``.

    Args:
        array: any numbers.
        trace: of the preparation.
        fill: value outside the cropped part, for all channels or one each.
    """
    if trace.cropped.shape != trace.oriented.shape:
        array = _paste(array, trace, fill)
    turn = _between_codes(axis_codes(trace.oriented), axis_codes(trace.source))
    return np.ascontiguousarray(_turned(array, turn))


def _to_prepared(trace: Trace) -> Mapping:
    return Mapping.between(trace.prepared.matrix, trace.cropped.matrix, trace.cropped.shape)


def axis_codes(grid: Grid) -> tuple[str, ...]:
    """Where each array axis points: ("R", "A", "S") for an axial volume."""
    return tuple(nib.orientations.aff2axcodes(grid.matrix))[: len(grid.shape)]


def axis_order(codes: Sequence[str], orientation: str | None) -> tuple[int, ...]:
    """Which axis of an image with these codes becomes each axis of the plan's orientation."""
    wanted = _orientation(codes, orientation)
    if wanted is None:
        return tuple(range(len(codes)))
    where = [_direction(code) for code in codes]
    return tuple(where.index(_direction(code)) for code in wanted)


def turned_place(
    place: Sequence[float], codes: Sequence[str], orientation: str | None
) -> tuple[float, ...]:
    """A place in an image, from 0 to 1 of each axis, after the axes are turned to an orientation.

    Args:
        place: on the image's own axes.
        codes: where these point.
        orientation: the plan's.
    """
    wanted = _orientation(codes, orientation)
    turn = None if wanted is None else _between_codes(codes, tuple(wanted))
    if turn is None:
        return tuple(place)
    turned = [0.0] * len(place)
    for value, (axis, way) in zip(place, turn, strict=True):
        turned[int(axis)] = value if way > 0 else 1 - value
    return tuple(turned)


def _direction(code: str) -> int:
    """0 for left-right, 1 for posterior-anterior, 2 for inferior-superior."""
    return next(k for k, pair in enumerate(AXIS_LABELS) if code in pair)


def _orientation(codes: Sequence[str], orientation: str | None) -> str | None:
    """The axis codes to turn to, or None when nothing is to be done.

    A 2D image is only turned inside its plane, and only when that is the plane of the first two
    letters, the axial one for RAS.
    """
    if orientation is None:
        return None
    wanted = orientation[: len(codes)]
    if {_direction(code) for code in codes} != {_direction(code) for code in wanted}:
        return None
    return None if "".join(codes) == wanted else wanted


def _turn(grid: Grid, orientation: str | None) -> NDArray[np.float64] | None:
    """How the axes are to be turned, in nibabel's way; None if they stay."""
    codes = axis_codes(grid)
    wanted = _orientation(codes, orientation)
    return None if wanted is None else _between_codes(codes, tuple(wanted))


def _between_codes(codes: Sequence[str], wanted: Sequence[str]) -> NDArray[np.float64] | None:
    if tuple(codes) == tuple(wanted):
        return None
    # A plane has two axes; which directions of space they are does not matter for the turn.
    names = sorted({_direction(code) for code in codes})
    labels = [AXIS_LABELS[k] for k in names]
    turn: NDArray[np.float64] = nib.orientations.ornt_transform(
        nib.orientations.axcodes2ornt(codes, labels), nib.orientations.axcodes2ornt(wanted, labels)
    )
    return turn


def _turned(array: NDArray[Any], turn: NDArray[np.float64] | None) -> NDArray[Any]:
    """``(C, *S)`` with its axes turned; a view."""
    if turn is None:
        return array
    whole = np.concatenate([[[0, 1]], np.add(turn, [1, 0])])
    turned: NDArray[Any] = nib.orientations.apply_orientation(array, whole)
    return turned


def _turned_grid(grid: Grid, turn: NDArray[np.float64] | None) -> Grid:
    if turn is None:
        return grid
    dims = len(grid.shape)
    back = nib.orientations.inv_ornt_aff(turn, grid.shape)
    matrix = np.eye(4)
    matrix[:dims, :dims], matrix[:dims, 3] = back[:dims, :dims], back[:dims, dims]
    shape = [0] * dims
    for axis, (target, _) in enumerate(turn):
        shape[int(target)] = grid.shape[axis]
    return Grid(tuple(shape), _rows(grid.matrix @ matrix))


def _part(grid: Grid, window: tuple[slice, ...]) -> Grid:
    shape = tuple(part.stop - part.start for part in window)
    if shape == grid.shape:
        return grid
    move = np.eye(4)
    move[: len(window), 3] = [part.start for part in window]
    return Grid(shape, _rows(grid.matrix @ move))


def _rows(matrix: NDArray[np.float64]) -> Affine:
    return tuple(tuple(row) for row in matrix.tolist())


def _crop(image: NDArray[Any], plan: PreprocessPlan) -> tuple[slice, ...]:
    """The part of ``(C, *S)`` that holds all voxels that are not 0, and the plan's margin."""
    sizes = image.shape[1:]
    if plan.crop == "none":
        return tuple(slice(0, n) for n in sizes)
    there = np.zeros(sizes, bool)
    for channel in image:
        there |= channel != 0
    window = []
    for axis, size in enumerate(sizes):
        others = tuple(a for a in range(len(sizes)) if a != axis)
        places = np.flatnonzero(there.any(others))
        window.append(
            slice(max(int(places[0]) - plan.crop_margin, 0),
                  min(int(places[-1]) + 1 + plan.crop_margin, size))
        )  # fmt: skip
    return tuple(window)


def planned_grids(grid: Grid, plan: PreprocessPlan, name: str) -> tuple[Grid, Grid]:
    """The grids of an image from which nothing is cropped: its axes turned, and prepared.

    Raises:
        ImageError: if the plan's spacing would make more voxels of it than any image has; it names
            the image by ``name``.
    """
    oriented = _turned_grid(grid, _turn(grid, plan.orientation))
    return oriented, _spaced(oriented, plan, name)


def _spaced(grid: Grid, plan: PreprocessPlan, name: str) -> Grid:
    """The grid of the plan's spacing over the same part of space."""
    if plan.spacing is None or same_spacing(grid.spacing, plan.spacing):
        return grid
    fault = resampling_fault(grid.shape, grid.spacing, plan.spacing)
    if fault is not None:
        raise ImageError(f"{name}: {fault}.", hint=SPACING_HINT)
    shape = spaced_shape(grid.shape, grid.spacing, plan.spacing)
    step = np.array(plan.spacing) / grid.spacing
    # Both grids have their centre in common.
    first = (np.array(grid.shape) - 1 - step * (np.array(shape) - 1)) / 2
    move, dims = np.eye(4), len(grid.shape)
    move[:dims, :dims], move[:dims, 3] = np.diag(step), first
    return Grid(shape, _rows(grid.matrix @ move))


def spaced_shape(
    shape: Sequence[int], spacing: Sequence[float], target: Sequence[float]
) -> tuple[int, ...]:
    """How many voxels of another spacing fill the same part of space, rounded, per axis."""
    return tuple(
        max(round(n * own / new), 1) for n, own, new in zip(shape, spacing, target, strict=True)
    )


def same_spacing(first: tuple[float, ...], second: tuple[float, ...]) -> bool:
    """Whether two spacings differ by no more than rounding."""
    return bool(np.allclose(first, second, rtol=SAME_SPACING, atol=0))


def _paste(array: NDArray[Any], trace: Trace, fill: float | tuple[float, ...]) -> NDArray[Any]:
    whole = np.empty((array.shape[0], *trace.oriented.shape), array.dtype)
    whole[:] = np.reshape(fill, (-1, *(1,) * len(trace.crop)))
    window = (slice(a, a + n) for a, n in zip(trace.crop, trace.cropped.shape, strict=True))
    whole[(slice(None), *window)] = array
    return whole
