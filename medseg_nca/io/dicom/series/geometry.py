"""Where planes lie: their order, whether they make a regular grid, and its affine (PS3.3 C.7.6.2).

Lengths are mm; vectors are LPS as in DICOM, affines RAS.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from medseg_nca.io.dicom.problems import DicomError
from medseg_nca.io.dicom.records import Plane, Problem, Stack
from medseg_nca.io.dicom.series.rounding import could_be_even, fits, rounding
from medseg_nca.io.itk import LPS_TO_RAS

Array = NDArray[np.float64]

# Direction cosines that differ by at most this are one direction, written with rounded digits.
SAME_DIRECTION = 1e-4
# A plane may be this part of the spacing away from its even place; 0.01 mm where that is more
# (positions are often rounded to two digits), but never a tenth of the spacing.
EVEN_PART, EVEN_MM, EVEN_AT_MOST = 0.01, 0.01, 0.1
# Planes nearer to each other than this lie at one position.
SAME_POSITION = 0.005
# PixelSpacing inside a series, as a part of itself: half a voxel over 5000 pixels.
SAME_SPACING = 1e-4
# Planes that drift sideways by less than this part of a pixel over the whole stack are no tilt.
DRIFT_PIXELS = 0.25
# Gantries tilt by up to 30 degrees; a sideways shift beyond the spacing is no gantry tilt.
MAX_TILT = 1.0
UNKNOWN_THICKNESS = 1.0
# With more orientations than this there is no volume, and they are not compared any further.
_MOST_ORIENTATIONS = 1000


def directions(planes: Sequence[Plane]) -> tuple[Array, Array, Array]:
    """Return row, column and normal of planes that are parallel: the mean, of unit length.

    The column direction is made perpendicular to the row direction; the normal is their cross
    product.
    """
    row = np.array([plane.row for plane in planes], dtype=np.float64).mean(axis=0)
    column = np.array([plane.column for plane in planes], dtype=np.float64).mean(axis=0)
    row = row / np.linalg.norm(row)
    column = column - (column @ row) * row
    column = column / np.linalg.norm(column)
    return row, column, np.cross(row, column)


def positions(planes: Sequence[Plane]) -> Array:
    """Return the centres of the first voxels, ``(n, 3)``."""
    return np.array([plane.position for plane in planes], dtype=np.float64).reshape(-1, 3)


def orientation_groups(planes: Sequence[Plane]) -> list[list[Plane]]:
    """Group planes by orientation, in order of appearance; differences up to 1e-4 are none."""
    groups: list[list[Plane]] = []
    firsts = np.empty((16, 6))  # cosines of the first plane of each group
    exact: dict[object, list[Plane]] = {}
    for plane in planes:
        if plane.row is None or plane.column is None:
            raise ValueError("a plane without orientation")
        cosines = (*plane.row, *plane.column)
        group = exact.get(cosines)
        if group is None:
            known = firsts[: len(groups)] if len(groups) < _MOST_ORIENTATIONS else firsts[:0]
            near = np.flatnonzero(np.abs(known - cosines).max(axis=1) <= SAME_DIRECTION)
            if len(near):
                group = groups[near[0]]
            else:
                if len(groups) == len(firsts):
                    firsts = np.concatenate([firsts, np.empty_like(firsts)])
                firsts[len(groups)] = cosines
                group = []
                groups.append(group)
            exact[cosines] = group
        group.append(plane)
    return groups


def orientation_name(plane: Plane) -> str:
    """Return axial, coronal or sagittal, with "oblique " before it beyond 1 degree."""
    normal = np.abs(np.cross(plane.row or (1, 0, 0), plane.column or (0, 1, 0)))
    axis = int(np.argmax(normal))
    name = ("sagittal", "coronal", "axial")[axis]
    return name if normal[axis] > np.cos(np.radians(1)) else f"oblique {name}"


def same_position_groups(planes: Sequence[Plane]) -> list[list[Plane]]:
    """Group parallel planes by their distance along the normal, in this order."""
    _, _, normal = directions(planes)
    distances = positions(planes) @ normal
    order = np.argsort(distances, kind="stable")
    breaks = np.flatnonzero(np.diff(distances[order]) > SAME_POSITION) + 1
    return [[planes[k] for k in part] for part in np.split(order, breaks)]


def build_stack(name: str, planes: Sequence[Plane]) -> Stack:
    """Order parallel planes of one shape along their normal and derive the affine.

    Args:
        name: of the stack.
        planes: at least one, each at a position of its own.

    Raises:
        DicomError: ``missing-slices``, ``uneven-slices`` or ``shifted-planes``.
    """
    row, column, normal = directions(planes)
    distances = positions(planes) @ normal
    order = np.argsort(distances, kind="stable")
    ordered = tuple(planes[k] for k in order)
    step, shear = _step(ordered, distances[order], normal)
    rows, columns = ordered[0].shape
    between_rows, between_columns = ordered[0].spacing or (1.0, 1.0)
    lps = np.eye(4)
    lps[:3, 0] = row * between_columns
    lps[:3, 1] = -column * between_rows
    lps[:3, 2] = step
    lps[:3, 3] = positions(ordered)[0] + column * between_rows * (rows - 1)
    return Stack(
        name=name,
        planes=ordered,
        shape=(columns, rows, len(ordered)),
        affine=LPS_TO_RAS @ lps + 0.0,  # no -0.0
        shear_mm=shear,
    )


def picture(name: str, plane: Plane) -> Stack:
    """Return one plane as a 2D image: x counts columns, y rows, pixels of PixelSpacing or 1 mm."""
    rows, columns = plane.shape
    between_rows, between_columns = plane.spacing or (1.0, 1.0)
    affine = np.diag([between_columns, between_rows, 1.0, 1.0])
    return Stack(name=name, planes=(plane,), shape=(columns, rows), affine=affine)


def place(plane: Plane) -> str:
    """Return the position of a plane for a message, LPS mm."""
    return "(" + ", ".join(f"{v:.6g}" for v in plane.position or ()) + ")"


def tolerance(spacing: float) -> float:
    """How far, in mm, a plane may be from its even place."""
    return min(max(EVEN_PART * spacing, EVEN_MM), EVEN_AT_MOST * spacing)


def is_even(planes: Sequence[Plane]) -> bool:
    """Whether parallel planes, each at a position of its own, have one distance to the next."""
    _, _, normal = directions(planes)
    distances = np.sort(positions(planes) @ normal)
    return len(planes) < 3 or _are_even(planes, distances)


def _step(planes: Sequence[Plane], distances: Array, normal: Array) -> tuple[Array, float]:
    """Return the vector from each plane to the next, and how much of it is tilt."""
    if len(planes) == 1:
        return normal * (planes[0].thickness or UNKNOWN_THICKNESS), 0.0
    _check_even(planes, distances)
    places = positions(planes)
    step = (places[-1] - places[0]) / (len(planes) - 1)
    _check_line(planes, places, step)
    step = step * _true_spacing(planes, distances) / float(step @ normal)
    upright = (step @ normal) * normal
    shift = float(np.linalg.norm(step - upright))
    along = float(step @ normal)
    if shift * (len(planes) - 1) <= DRIFT_PIXELS * _pixel(planes):
        return upright, 0.0
    if shift > MAX_TILT * along:
        raise _shifted(
            f"each plane lies {shift:.4g} mm beside and {along:.4g} mm above the one before, from "
            f"{place(planes[0])} to {place(planes[-1])} (LPS): no gantry tilts so far."
        )
    return step, shift


def _check_even(planes: Sequence[Plane], distances: Array) -> None:
    """Refuse gaps; what counts is how far a plane is from where even planes would put it."""
    gaps = np.diff(distances)
    usual = float(np.median(gaps))
    if _are_even(planes, distances):
        return
    # Where slices are missing all gaps are multiples of the least one.
    least = float(gaps.min())
    whole = np.rint(gaps / least)
    missing = int((whole - 1).sum())
    unit = float(gaps.sum() / whole.sum())
    allowed = 5 * tolerance(unit) + 2 * _rounding(planes)
    if least > usual / 4 and missing and np.abs(gaps - whole * unit).max() <= allowed:
        raise DicomError(
            Problem(
                "missing-slices",
                f"{missing} of {len(planes) + missing} slices are missing: planes are "
                f"{unit:.6g} mm apart, with {_gaps(planes, gaps, whole > 1)}.",
            )
        )
    wrong = np.abs(gaps - usual) > tolerance(usual)
    if not wrong.any():  # each gap is near the median, but they add up
        wrong = np.abs(gaps - usual) == np.abs(gaps - usual).max()
    raise DicomError(
        Problem(
            "uneven-slices",
            f"the slices are not evenly spaced: planes are {usual:.6g} mm apart, with "
            f"{_gaps(planes, gaps, wrong)}; {tolerance(usual):.3g} mm are allowed.",
        )
    )


def _are_even(planes: Sequence[Plane], distances: Array) -> bool:
    """Whether sorted distances are even, or would be if their positions were not rounded."""
    usual = float(np.median(np.diff(distances)))
    even = np.linspace(distances[0], distances[-1], len(distances))
    if np.abs(distances - even).max() <= tolerance(usual):
        return True
    within = min(_rounding(planes), EVEN_AT_MOST * usual)
    return within > 0 and could_be_even(distances, within)


def _true_spacing(planes: Sequence[Plane], distances: Array) -> float:
    """The mean distance; where positions are rounded, the one that is declared, if it fits."""
    mean = float(distances[-1] - distances[0]) / (len(planes) - 1)
    declared = planes[0].thickness
    even = distances[0] + mean * np.arange(len(planes))
    if not declared or np.abs(distances - even).max() <= tolerance(mean):
        return mean
    return declared if fits(distances, declared, _rounding(planes)) else mean


def _rounding(planes: Sequence[Plane]) -> float:
    """How far along the normal rounding can put a plane, mm."""
    _, _, normal = directions(planes)
    return rounding(positions(planes)) * float(np.abs(normal).sum())


def _gaps(planes: Sequence[Plane], gaps: Array, wrong: NDArray[np.bool_]) -> str:
    """Name the first of the wrong gaps with the positions beside them."""
    found = np.flatnonzero(wrong)
    texts = [
        f"{gaps[k]:.6g} mm between {place(planes[k])} and {place(planes[k + 1])}" for k in found[:3]
    ]
    more = f" and {len(found) - 3} more gaps" if len(found) > 3 else ""
    return f"{', '.join(texts)}{more} (positions LPS)"


def _check_line(planes: Sequence[Plane], places: Array, step: Array) -> None:
    """Refuse planes that jump sideways; a steady sideways shift is tilt."""
    expected = places[0] + np.arange(len(planes))[:, None] * step
    off = np.linalg.norm(places - expected, axis=1)
    worst = int(np.argmax(off))
    allowed = max(tolerance(float(np.linalg.norm(step))), DRIFT_PIXELS * _pixel(planes))
    if off[worst] > allowed and off[worst] > 2 * np.sqrt(3) * rounding(places):
        raise _shifted(
            f"the planes do not lie on one line: the plane at {place(planes[worst])} is "
            f"{off[worst]:.4g} mm beside the line from {place(planes[0])} to {place(planes[-1])} "
            "(LPS)."
        )


def _pixel(planes: Sequence[Plane]) -> float:
    return min(planes[0].spacing or (1.0, 1.0))


def _shifted(text: str) -> DicomError:
    return DicomError(Problem("shifted-planes", text))
