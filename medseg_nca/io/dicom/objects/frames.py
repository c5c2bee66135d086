"""How the voxels of a volume lie in image planes: the bridge from an array to DICOM frames.

A frame is ``(rows, columns)``; the source's own planes are taken where the volume lies on them,
otherwise the volume's own grid (after resampling, or where there is no DICOM source).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg_nca.errors import OutputError
from medseg_nca.io.dicom.records import Plane, Source
from medseg_nca.io.itk import LPS_TO_RAS
from medseg_nca.io.volume import Volume

# A voxel must lie within this part of a voxel of the plane's pixel. Readers place planes on a
# regular grid within such a tolerance; a wrong flip is off by whole voxels.
_TOLERANCE = 0.3


@dataclass(frozen=True)
class FrameGrid:
    """Image planes and where their pixels lie in an array.

    Attributes:
        row: unit vector (LPS) along which the column number grows, as ImageOrientationPatient
            begins.
        column: unit vector (LPS) along which the row number grows.
        spacing: mm between rows, between columns.
        positions: ``(n, 3)`` LPS mm, the centre of pixel (0, 0) of each plane.
        thickness: mm between planes.
        on_source: whether plane ``k`` is plane ``k`` of the source.
        axes: the array axes that count planes, rows and columns.
        flips: whether rows, columns run against the array axes.
        order: the index along the first of ``axes`` of each plane.
    """

    row: NDArray[np.float64]
    column: NDArray[np.float64]
    spacing: tuple[float, float]
    positions: NDArray[np.float64]
    thickness: float
    on_source: bool
    axes: tuple[int, int, int]
    flips: tuple[bool, bool]
    order: tuple[int, ...]

    def frames(self, array: NDArray[Any]) -> NDArray[Any]:
        """Arrange ``(x, y, z)`` or ``(x, y)`` as ``(planes, rows, columns)``."""
        array = array[..., None] if array.ndim == 2 else array
        frames = array.transpose(self.axes)[list(self.order)]
        rows, columns = (slice(None, None, -1 if flip else 1) for flip in self.flips)
        return np.ascontiguousarray(frames[:, rows, columns])

    @property
    def orientation(self) -> list[float]:
        """The six numbers of ImageOrientationPatient."""
        return [*self.row.tolist(), *self.column.tolist()]


def frame_grid(volume: Volume) -> FrameGrid:
    """Return the planes of a volume: the source's, or those of its own grid.

    The affine decides which array index is which pixel; no axis order is assumed.

    Raises:
        OutputError: if the volume does not lie on its source's planes, or its axes are skewed.
    """
    source = volume.header.get("dicom")
    if isinstance(source, Source) and not source.resampled:
        return _source_grid(volume, source)
    return own_grid(volume)


def own_grid(volume: Volume) -> FrameGrid:
    """Return planes along the volume's third axis; the first axis counts columns.

    Rows and columns run so that pictures are shown as usual: towards left or posterior, and
    towards posterior or feet. Planes run along the normal, ``cross(row, column)``.

    Raises:
        OutputError: if the axes are not at right angles.
    """
    lps = LPS_TO_RAS @ volume.affine
    lengths = np.linalg.norm(lps[:3, :3], axis=0)
    units = lps[:3, :3] / lengths
    if np.abs(units.T @ units - np.eye(3)).max() > 1e-4:
        raise OutputError(
            "The axes of the volume are not at right angles; DICOM planes cannot hold it.",
            hint="Resample it to an upright grid.",
        )
    shape = (*volume.shape, 1)[:3]
    flip_x, flip_y = _towards(units[:, 0], (0, 1, 2)), _towards(units[:, 1], (1, 2, 0))
    row = -units[:, 0] if flip_x else units[:, 0]
    column = -units[:, 1] if flip_y else units[:, 1]
    order = range(shape[2])
    if np.cross(row, column) @ units[:, 2] < 0:
        order = order[::-1]
    corner = [shape[0] - 1 if flip_x else 0, shape[1] - 1 if flip_y else 0]
    positions = np.array([(lps @ [*corner, k, 1])[:3] for k in order])
    return FrameGrid(
        row=row,
        column=column,
        spacing=(float(lengths[1]), float(lengths[0])),
        positions=positions,
        thickness=float(lengths[2]),
        on_source=False,
        axes=(2, 1, 0),
        flips=(flip_y, flip_x),
        order=tuple(order),
    )


def _towards(unit: NDArray[np.float64], preference: tuple[int, ...]) -> bool:
    """Tell whether an axis must be turned to run as pictures are shown."""
    axis = int(np.argmax(np.abs(unit)))
    # Left and posterior are the positive directions of LPS; feet the negative one.
    wanted = -1 if axis == 2 else 1
    return bool(unit[axis] * wanted < 0)


def _source_grid(volume: Volume, source: Source) -> FrameGrid:
    planes = source.stack.planes
    first = planes[0]
    if first.position is None or first.row is None or first.column is None:
        return _flat_grid(volume, first)
    row, column = np.array(first.row), np.array(first.column)
    spacing = first.spacing or (1.0, 1.0)
    positions = np.array([plane.position for plane in planes], dtype=float)
    lps = LPS_TO_RAS @ volume.affine
    to_index = np.linalg.inv(lps)
    # What one step to the next row, and to the next column, is in array indices.
    steps = np.stack([column * spacing[0], row * spacing[1]]) @ to_index[:3, :3].T
    corners = positions @ to_index[:3, :3].T + to_index[:3, 3]
    rows, columns = (int(axis) for axis in np.abs(steps).argmax(axis=1))
    third = 3 - rows - columns if rows != columns else 0
    flips = (bool(steps[0, rows] < 0), bool(steps[1, columns] < 0))
    order = np.rint(corners[:, third]).astype(int)
    grid = FrameGrid(
        row=row,
        column=column,
        spacing=spacing,
        positions=positions,
        thickness=float(np.linalg.norm(lps[:3, third])),
        on_source=True,
        axes=(third, rows, columns),
        flips=flips,
        order=tuple(order.tolist()),
    )
    if not _fits(grid, first, (*volume.shape, 1)[:3], steps, corners):
        raise _off_planes(first)
    return grid


def _fits(
    grid: FrameGrid,
    plane: Plane,
    shape: tuple[int, ...],
    steps: NDArray[np.float64],
    corners: NDArray[np.float64],
) -> bool:
    """Whether each voxel is one pixel of the planes, and each pixel one voxel."""
    third, rows, columns = grid.axes
    if {third, rows, columns} != {0, 1, 2} or (shape[rows], shape[columns]) != plane.shape:
        return False
    if sorted(grid.order) != list(range(shape[third])):
        return False
    whole = np.zeros((2, 3))
    whole[0, rows], whole[1, columns] = (-1 if flip else 1 for flip in grid.flips)
    expected = np.zeros((len(corners), 3))
    expected[:, third] = grid.order
    expected[:, rows] = shape[rows] - 1 if grid.flips[0] else 0
    expected[:, columns] = shape[columns] - 1 if grid.flips[1] else 0
    drift = (steps - whole) * np.array([[shape[rows]], [shape[columns]]])
    return bool(max(np.abs(drift).max(), np.abs(corners - expected).max()) < _TOLERANCE)


def _flat_grid(volume: Volume, plane: Plane) -> FrameGrid:
    """A picture without a place in the patient: its first axis counts the columns."""
    if volume.shape != (plane.shape[1], plane.shape[0]):
        raise _off_planes(plane)
    spacing = plane.spacing or (1.0, 1.0)
    return FrameGrid(
        row=np.array([1.0, 0.0, 0.0]),
        column=np.array([0.0, 1.0, 0.0]),
        spacing=spacing,
        positions=np.zeros((1, 3)),
        thickness=plane.thickness or 1.0,
        on_source=True,
        axes=(2, 1, 0),
        flips=(False, False),
        order=(0,),
    )


def _off_planes(plane: Plane) -> OutputError:
    return OutputError(
        f"{plane.path}: the segmentation does not lie on the planes of this series.",
        hint="Resample the label map to the grid of the DICOM series that it is written for.",
    )
