"""The grid of a NIfTI file in millimetres, from the numbers that its header stores.

nibabel mends a header while it loads it (a voxel size of 0 becomes 1 mm) and refuses a quaternion
for its rounding. So the stored numbers are judged here.
"""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

import numpy as np
from nibabel.orientations import aff2axcodes
from nibabel.quaternions import quat2mat
from nibabel.volumeutils import shape_zoom_affine
from numpy.typing import NDArray

from medseg_nca.errors import ImageError
from medseg_nca.io.checks import is_grid
from medseg_nca.io.units import millimetres

logger = logging.getLogger(__name__)

_UNITS = {0: "unknown", 1: "m", 2: "mm", 3: "micron"}
# Four digits of a header: beyond this, three numbers are no part of a unit quaternion.
_ROUNDING = 1e-3
# Where sform and pixdim disagree by more, they are not the same number rounded.
_SAME_SIZE = 0.01
# Codes of qform and sform: the highest that is defined, and "aligned to another image".
_LAST_CODE, _ALIGNED = 5, 2
_MEND = "Mend the header (qform, sform, pixdim) with your imaging tool."


def affine_mm(path: Path, stored: Any, spatial: tuple[int, ...]) -> NDArray[np.float64]:
    """The affine to RAS+ millimetres: sform, else qform, else the voxel size alone.

    An sform without a volume, such as one of zeros, says nothing, and the qform is taken.

    Raises:
        ImageError: if the header gives no grid.
    """
    unit = _unit(path, stored)
    affine = _sform(stored, unit)
    if affine is not None:
        return affine
    if int(stored["qform_code"]) > 0:
        affine = _qform(path, stored, spatial)
    elif int(stored["sform_code"]) > 0:
        rows = [stored[name].tolist() for name in ("srow_x", "srow_y", "srow_z")]
        raise ImageError(
            f"{path}: the header's geometry cannot be used (sform {rows}, no qform).", hint=_MEND
        )
    else:
        affine = shape_zoom_affine(spatial, _sizes(path, stored, spatial)[: len(spatial)], True)
    return _in(affine, unit)


def tell_doubts(path: Path, stored: Any, spatial: tuple[int, ...]) -> None:
    """Log where the sform, which counts, contradicts the header's pixdim or qform.

    Sizes count, and which way each axis points; that forms lie elsewhere in space, as one of the
    scanner and one of an atlas do, changes no result.
    """
    affine = _sform(stored, 1.0)
    if affine is None:
        return
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    said = np.array(stored["pixdim"][1:4], np.float64)
    if not np.allclose(sizes[said > 0], said[said > 0], rtol=_SAME_SIZE, atol=0):
        logger.warning(
            "%s: the sform gives voxels of %s, pixdim %s; the sform is taken.",
            path, np.round(sizes, 6).tolist(), np.round(said, 6).tolist(),
        )  # fmt: skip
    if int(stored["qform_code"]) <= 0:
        return
    try:
        other = _qform(path, stored, spatial)
    except ImageError:
        return  # one that cannot be used is asked by nobody
    codes = ["".join(map(str, aff2axcodes(form))) for form in (affine, other)]
    if codes[0] != codes[1]:
        logger.warning(
            "%s: its axes point to %s by the sform, and to %s by the qform; the sform is taken, "
            "and other programs may take the qform.", path, *codes,
        )  # fmt: skip


def readable(path: Path, stored: Any, spatial: tuple[int, ...]) -> Any:
    """A copy that nibabel can read too: a quaternion that is not too long, no sform of zeros.

    The extensions stay behind: they often hold the DICOM header, and so the patient's name.
    """
    header = stored.copy()
    header.extensions.clear()
    _shorten(header)
    header["vox_offset"] = 0
    axes = header["dim"][3 : int(header["dim"][0]) + 1]
    axes[axes == 0] = 1
    for name in ("qform_code", "sform_code"):
        if int(header[name]) > _LAST_CODE:
            header[name] = _ALIGNED  # nibabel would set it to 0, and not take the form any more
    if _sform(header, _unit(path, header)) is None:
        header["sform_code"] = 0
    sizes = header["pixdim"][1:4]
    sizes[(np.array([*spatial, 1, 1][:3]) == 1) & (sizes == 0)] = 1
    if header["pixdim"][0] not in (-1, 1):
        header["pixdim"][0] = -1 if header["pixdim"][0] < 0 else 1
    return header


def _unit(path: Path, stored: Any) -> float:
    """The unit of space in millimetres, from the lowest three bits; others are the unit of time."""
    code = int(stored["xyzt_units"]) % 8
    return millimetres(path, "xyzt_units", [_UNITS.get(code, f"code {code}")])


def _in(affine: NDArray[np.float64], unit: float) -> NDArray[np.float64]:
    return np.asarray(np.diag([unit, unit, unit, 1.0]) @ affine)


def _sform(stored: Any, unit: float) -> NDArray[np.float64] | None:
    """The sform in millimetres; None where the header has none, or one that spans no volume."""
    if int(stored["sform_code"]) <= 0:
        return None
    affine = _in(np.array(stored.get_sform(), np.float64), unit)
    return affine if is_grid(affine) else None


def _qform(path: Path, stored: Any, spatial: tuple[int, ...]) -> NDArray[np.float64]:
    quaternion = _quaternion(stored)
    offset = np.array([stored[f"qoffset_{axis}"] for axis in "xyz"], np.float64)
    if quaternion is None or not np.isfinite(offset).all():
        numbers = [float(stored[f"quatern_{axis}"]) for axis in "bcd"]
        raise ImageError(
            f"{path}: the header's geometry cannot be used (qform: quaternion {numbers}, which is "
            f"longer than 1 or no number; offset {offset.tolist()}), and there is no sform.",
            hint=_MEND,
        )
    sizes = _sizes(path, stored, spatial)
    sizes[2] *= -1 if stored["pixdim"][0] < 0 else 1
    affine = np.eye(4)
    affine[:3, :3] = quat2mat(quaternion) * sizes
    affine[:3, 3] = offset
    return affine


def _quaternion(stored: Any) -> NDArray[np.float64] | None:
    """All four numbers, of length 1; None if the three stored ones are more than rounded."""
    vector = np.array([stored[f"quatern_{axis}"] for axis in "bcd"], np.float64)
    squared = float(vector @ vector)
    if not squared <= 1 + _ROUNDING:  # NaN too
        return None
    return np.array([math.sqrt(max(1 - squared, 0.0)), *(vector / max(1, math.sqrt(squared)))])


def _sizes(path: Path, stored: Any, spatial: tuple[int, ...]) -> NDArray[np.float64]:
    """The voxel sizes of three axes; an axis with one place may have none, and gets 1."""
    sizes = np.array(stored["pixdim"][1:4], np.float64)
    places = np.array([*spatial, 1, 1][:3])
    sizes[(places == 1) & (sizes == 0)] = 1
    if not (np.isfinite(sizes).all() and (sizes > 0).all()):
        form = "qform" if int(stored["qform_code"]) > 0 else "no sform or qform"
        raise ImageError(
            f"{path}: the header's geometry cannot be used ({form}, and pixdim gives voxels of "
            f"{np.array(stored['pixdim'][1:4], float).tolist()}).",
            hint=_MEND,
        )
    return sizes


def _shorten(header: Any) -> None:
    """Make a quaternion that is too long for nibabel as long as it takes: 1 and a rounding."""
    quaternion, most = _quaternion(header), -float(header.quaternion_threshold)
    if quaternion is None:
        return
    vector = np.array([header[f"quatern_{axis}"] for axis in "bcd"], np.float64)
    if float(vector @ vector) - 1 > most:
        # Not below 1: half a turn is what was meant, and a rest would turn it by some 0.03 degrees.
        for axis, value in zip("bcd", quaternion[1:] * (1 + most / 4), strict=True):
            header[f"quatern_{axis}"] = value
