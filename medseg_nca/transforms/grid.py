"""The geometric part of the preprocessing: orientation, crop, spacing; and the way back.

Each step is a MONAI dictionary transform and is left out when it would change nothing, so a volume
that already has the right grid passes through untouched. MONAI is imported where a step needs it:
that takes seconds, which a prediction or a worker process that needs none of them is spared.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from medseg_nca.config import PreprocessPlan
from medseg_nca.errors import ImageError
from medseg_nca.io.volume import Volume

AXIS_LABELS = (("L", "R"), ("P", "A"), ("I", "S"))
# As many float32 values as the largest file that is read may hold (io.checks.MAX_BYTES).
MOST_VOXELS = 2**31
# Spacings closer than this (relative) are the same: headers are rounded.
SAME_SPACING = 1e-3

# 8 GiB of float32 a channel: as much as a reader takes of a file.
MOST_VOXELS = 2**31

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
    count = math.prod(shape) * math.prod(spacing) / math.prod(target)
    if count <= MOST_VOXELS:
        return None
    own, wanted = (" x ".join(f"{v:.3g}" for v in values) for values in (spacing, target))
    return (
        f"the spacing {own} mm brought to {wanted} mm makes {count:.3g} voxels; "
        f"at most {MOST_VOXELS:,} can be used"
    )


def to_plan_grid(
    volume: Volume, plan: PreprocessPlan, channels: dict[str, NDArray[Any]]
) -> tuple[dict[str, NDArray[np.float32]], Trace]:
    """Bring arrays of one volume's grid to the grid of the plan.

    Args:
        volume: gives the affine.
        plan: orientation, crop and spacing.
        channels: float32 arrays ``(C, *S)`` by name, all on the volume's grid; "image" is among
            them and decides on the crop.

    Returns:
        The arrays, float32 and contiguous, linearly interpolated where the spacing changes, and the
        trace.

    Raises:
        ImageError: if the plan's spacing would make more voxels of it than any image has.
    """
    source = Grid.of(volume)
    codes = _orientation(axis_codes(source), plan.orientation)
    if codes is None and plan.crop == "none" and not changes_spacing(volume, plan):
        trace = Trace(source, source, (0,) * len(source.shape), source, source)
        return {key: np.ascontiguousarray(array) for key, array in channels.items()}, trace
    data = {key: _tensor(array, source) for key, array in channels.items()}
    data = _orient(data, codes)
    oriented = Grid.of(data["image"])
    data, start = _crop(data, plan)
    cropped = Grid.of(data["image"])
    data = _space(data, plan)
    trace = Trace(source, oriented, start, cropped, Grid.of(data["image"]))
    return {key: np.ascontiguousarray(value.numpy()) for key, value in data.items()}, trace


def restore(array: NDArray[Any], trace: Trace, fill: float | tuple[float, ...] = 0.0) -> Any:
    """Take values on the prepared grid back to the grid of the source file.

    Axes and crop are undone exactly, the spacing by linear interpolation at the source's voxel
    centres. When the grid did not change, the values come back bit by bit.

    Args:
        array: floats ``(K, *prepared shape)``.
        trace: of the preparation.
        fill: value outside the cropped part, for all channels or one each.

    Returns:
        ``(K, *source shape)``, of the array's type.
    """
    array = _unspace(array, trace)
    if trace.cropped.shape != trace.oriented.shape:
        array = _paste(array, trace, fill)
    if trace.oriented == trace.source:
        return array
    from monai.transforms import Orientation

    turn = Orientation(axcodes="".join(axis_codes(trace.source)), labels=AXIS_LABELS)
    back = turn(_tensor(array, trace.oriented))
    return np.ascontiguousarray(back.numpy())


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


def _tensor(array: NDArray[Any], grid: Grid) -> Any:
    """A MONAI tensor that knows its affine."""
    import torch
    from monai.data import MetaTensor

    values = torch.from_numpy(np.require(array, requirements=["C", "W"]))
    return MetaTensor(values, affine=torch.as_tensor(grid.matrix))


def _orient(data: dict[str, Any], codes: str | None) -> dict[str, Any]:
    if codes is None:
        return data
    from monai.transforms import Orientationd

    turn: Any = Orientationd(list(data), axcodes=codes, labels=AXIS_LABELS)
    return dict(turn(data))


def _crop(data: dict[str, Any], plan: PreprocessPlan) -> tuple[dict[str, Any], tuple[int, ...]]:
    nowhere = (0,) * plan.dims
    if plan.crop == "none":
        return data, nowhere
    from monai.transforms import CropForegroundd

    keys = list(data)
    crop: Any = CropForegroundd(
        keys, "image", select_fn=_not_zero, margin=plan.crop_margin, allow_smaller=True
    )
    cropped = dict(crop(data))
    start = tuple(int(n) for n in np.ravel(cropped["foreground_start_coord"]))
    return {key: cropped[key] for key in keys}, start


def _not_zero(image: Any) -> Any:
    return image != 0


def changes_spacing(volume: Volume, plan: PreprocessPlan) -> bool:
    """Whether bringing a volume to the plan's grid interpolates."""
    if plan.spacing is None:
        return False
    order = axis_order(axis_codes(Grid.of(volume)), plan.orientation)
    return not same_spacing(tuple(volume.spacing[k] for k in order), plan.spacing)


def _space(data: dict[str, Any], plan: PreprocessPlan) -> dict[str, Any]:
    if plan.spacing is None or same_spacing(Grid.of(data["image"]).spacing, plan.spacing):
        return data
    _check_size(Grid.of(data["image"]), plan.spacing)
    from monai.transforms import Spacingd

    space: Any = Spacingd(
        list(data), pixdim=plan.spacing, mode="bilinear", padding_mode="border", dtype=np.float32
    )
    return dict(space(data))


def _check_size(grid: Grid, spacing: tuple[float, ...]) -> None:
    edges = zip(grid.shape, grid.spacing, spacing, strict=True)
    size = tuple(max(round(n * old / new), 1) for n, old, new in edges)
    if prod(size) > MOST_VOXELS:
        raise ImageError(
            f"The image has {grid.shape} voxels; on the plan's spacing of {spacing} mm it would "
            f"have {size}, more than {MOST_VOXELS:,} in all.",
            hint="Check the voxel sizes in the image's header and plan.spacing of the model.",
        )


def same_spacing(first: tuple[float, ...], second: tuple[float, ...]) -> bool:
    """Whether two spacings differ by no more than rounding."""
    return bool(np.allclose(first, second, rtol=SAME_SPACING, atol=0))


def _unspace(array: NDArray[Any], trace: Trace) -> NDArray[Any]:
    if trace.prepared == trace.cropped:
        return array
    import torch
    from monai.transforms import SpatialResample

    resample = SpatialResample(mode="bilinear", padding_mode="border", dtype=np.float32)
    back = resample(
        _tensor(array, trace.prepared),
        dst_affine=torch.as_tensor(trace.cropped.matrix),
        spatial_size=trace.cropped.shape,
    )
    return np.asarray(back.numpy().astype(array.dtype, copy=False))


def _paste(array: NDArray[Any], trace: Trace, fill: float | tuple[float, ...]) -> NDArray[Any]:
    whole = np.empty((array.shape[0], *trace.oriented.shape), array.dtype)
    whole[:] = np.reshape(fill, (-1, *(1,) * len(trace.crop)))
    window = (slice(a, a + n) for a, n in zip(trace.crop, trace.cropped.shape, strict=True))
    whole[(slice(None), *window)] = array
    return whole
