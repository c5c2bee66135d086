"""Read DICOM as volumes: one stack of a scan, or the one volume of a folder or of files."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from medseg_nca.errors import ImageError
from medseg_nca.io.checks import MAX_BYTES, check_affine, check_values
from medseg_nca.io.dicom.pixels.planes import check_shape, each_plane, read_planes
from medseg_nca.io.dicom.problems import DicomError
from medseg_nca.io.dicom.records import Problem, Scan, Series, Source, Stack
from medseg_nca.io.dicom.scan import read_files, scan, series_uid_of_damaged
from medseg_nca.io.dicom.select import parse_selection
from medseg_nca.io.dicom.series.tilt import upright
from medseg_nca.io.slices import Slices
from medseg_nca.io.volume import Volume

Tilt = Literal["resample", "refuse"]

_CHOOSE = (
    "Choose one by its tags (select='SeriesNumber=4', or another of Modality, "
    "SeriesDescription, ImageType, Stack, ...), or import them: medseg-nca dicom import DIR "
    "--select CONDITIONS."
)
# The most volumes that a message names.
_NAMED = 6


def read_stack(series: Series, stack: Stack, *, tilt: Tilt = "resample") -> Volume:
    """Read the voxels of one stack of a scan.

    Args:
        series: that the stack is of.
        stack: a volume, or a 2D image.
        tilt: whether planes of a tilted gantry are resampled to an upright grid
            (:func:`medseg_nca.io.dicom.series.tilt.upright`) or refused.

    Returns:
        ``(C, x, y, z)`` or ``(C, x, y)``, C = 3 in colour, axes as in
        :mod:`medseg_nca.io.dicom.records`; ``header["dicom"]`` is a :class:`Source`.

    Raises:
        DicomError: if a file cannot be read or decoded, or the planes are ``tilted``.
        ImageError: if values are NaN or infinite, or there are too many for any memory.
    """
    _check(stack, tilt)
    volume = _read(series, stack)
    check_values(stack.planes[0].path, volume.array)
    return upright(volume) if stack.shear_mm else volume


def stack_slices(series: Series, stack: Stack) -> Slices | None:
    """The voxels of one stack of a scan, slice by slice; one of them is read here.

    Args:
        series: that the stack is of.
        stack: a volume.

    Returns:
        What :func:`read_stack` returns in one array. None where only that is possible: pictures,
        colours, tilted gantries, planes of several files that lie between each other.

    Raises:
        DicomError: as :func:`read_stack`, also while the slices are read.
        ImageError: likewise.
    """
    files = _files(stack)
    runs = [path for path, _ in groupby(plane.path for plane in stack.planes)]
    if len(stack.shape) != 3 or stack.shear_mm or len(runs) != len(files):
        return None
    _check(stack, "refuse")
    middle = read_planes([stack.planes[len(stack.planes) // 2]])
    if middle.ndim != 3:
        return None
    columns, rows, count = stack.shape
    return Slices(
        (columns, rows, count),
        stack.affine,
        lambda: _slices(stack),
        middle.dtype,
        files,
        {"dicom": _source(series, stack)},
    )


def _slices(stack: Stack) -> Iterator[NDArray[Any]]:
    columns, rows = stack.shape[:2]
    for plane, values in zip(stack.planes, each_plane(stack.planes), strict=True):
        check_shape(plane.path, values, (rows, columns))
        check_values(plane.path, values)
        yield values[::-1].T


def _check(stack: Stack, tilt: Tilt) -> None:
    first = stack.planes[0].path
    if math.prod(stack.shape) * np.dtype(np.float32).itemsize > MAX_BYTES:
        raise DicomError(
            Problem("too-large", f"{first}: {stack.shape} voxels; {MAX_BYTES:,} bytes can be read.")
        )
    if stack.shear_mm and tilt == "refuse":
        raise DicomError(
            Problem(
                "tilted",
                f"{first}: each plane is shifted by {stack.shear_mm:.4g} mm against the one "
                "before (gantry tilt).",
            ),
            hint="Read it with tilt='resample'.",
        )
    check_affine(first, stack.affine)


def read_dicom(
    paths: Sequence[Path], *, select: str | None = None, tilt: Tilt = "resample"
) -> Volume:
    """Read the one volume of a folder, of a file, or of the files of a stack.

    Args:
        paths: one folder, or files.
        select: conditions on tags (:func:`medseg_nca.io.dicom.select.parse_selection`), if there
            are several volumes.
        tilt: as for :func:`read_stack`.

    Raises:
        DicomError: with the reason why there is no volume, or the volumes there are to choose from.
        ImageError: as :func:`read_stack`; also if there is no such file.
        ConfigError: if ``select`` is not understood.
    """
    paths = [Path(path) for path in paths]
    if not paths:
        raise ImageError("A DICOM image needs a folder or at least one file.")
    folders = [path for path in paths if path.is_dir()]
    if folders and len(paths) > 1:
        raise ImageError(
            f"{folders[0]}: is a folder among other paths.", hint="Give one folder, or files only."
        )
    series, stack = find_stack(scan(paths[0]) if folders else read_files(paths), select=select)
    return read_stack(series, stack, tilt=tilt)


def find_stack(found: Scan, *, select: str | None = None) -> tuple[Series, Stack]:
    """Return the one volume or 2D image of a scan.

    Raises:
        DicomError: if there is none, with the first reason, or there are several.
    """
    selection = parse_selection(select)
    _check_files(found)
    images = [s for s in found.series if s.kind == "image"]
    stacks = [(s, stack) for s in images for stack in s.stacks if selection.matches(s, stack)]
    where = found.root if found.root != Path() else _first_file(found)
    if len(stacks) > 1:
        raise DicomError(
            Problem("several-volumes", f"{where}: holds {len(stacks)} volumes: {_named(stacks)}."),
            hint=_CHOOSE,
        )
    # Beside a volume that was not chosen by name, what is refused may be the one that is meant.
    beside = [s for s in images if s.refused]
    refused = [s for s in images if s.problems] if not stacks else beside if not select else []
    if refused:
        problem, folder = refused[0].problems[0], str(refused[0].files[0].parent)
        message = problem.message if folder in problem.message else f"{folder}: {problem.message}"
        raise DicomError(Problem(problem.kind, message), hint=_CHOOSE if stacks else _look(where))
    if not stacks:
        raise _nothing(found, where, selected=bool(images and select))
    return stacks[0]


def _read(series: Series, stack: Stack) -> Volume:
    # Without a copy: in memory x is next to x, y to y and z to z, as in a NIfTI file.
    planes = read_planes(stack.planes, upwards=len(stack.shape) == 3)
    if planes.ndim == 3:
        planes = planes.reshape(*planes.shape, 1)
    array = planes.transpose(3, 2, 1, 0)
    if len(stack.shape) == 2:
        array = array[..., 0]
    return Volume(array, stack.affine, _files(stack), {"dicom": _source(series, stack)})


def _files(stack: Stack) -> tuple[Path, ...]:
    return tuple(dict.fromkeys(plane.path for plane in stack.planes))


def _source(series: Series, stack: Stack) -> Source:
    return Source(
        stack=stack,
        series_uid=series.uid,
        study_uid=series.study_uid,
        frame_of_reference_uid=series.frame_of_reference_uid,
        modality=series.tags.get("Modality", ""),
        resampled=bool(stack.shear_mm),
    )


def _check_files(found: Scan) -> None:
    """Refuse unreadable files that may be slices of the volume: they name no other series."""
    known = {series.uid for series in found.series}
    lost = [p for path, p in found.unreadable.items() if series_uid_of_damaged(path) not in known]
    if not lost and not found.series:
        lost = list(found.unreadable.values())
    if not lost:
        return
    more = f" (and {len(lost) - 1} more files)" if len(lost) > 1 else ""
    alone = len(found.unreadable) == 1 and not found.series
    raise DicomError(
        Problem(lost[0].kind, f"{lost[0].message}{more}"),
        hint=_look(_first_file(found))
        if alone
        else "If it is no part of the image, take it out of the folder.",
    )


def _nothing(found: Scan, where: Path, *, selected: bool) -> DicomError:
    kinds = sorted({series.kind for series in found.series})
    if selected:
        text = "no volume fits the selection"
    elif kinds:
        text = f"holds no image, only DICOM of the kind {', '.join(kinds)}"
    else:
        text = "holds no DICOM file"
    return DicomError(Problem("no-image", f"{where}: {text}."), hint=_look(where))


def _look(path: Path) -> str:
    return f"See what there is: medseg-nca dicom scan {shlex.quote(str(path))}"


def _named(stacks: Sequence[tuple[Series, Stack]]) -> str:
    """Name volumes without what identifies a patient."""
    texts = []
    for series, stack in stacks[:_NAMED]:
        parts = [
            series.tags.get("Modality", ""),
            f"SeriesNumber={series.tags.get('SeriesNumber', '')}",
            f"Stack={stack.name}" if stack.name else "",
            " x ".join(map(str, stack.shape)),
            f"in {stack.planes[0].path.parent}",
        ]
        texts.append(" ".join(part for part in parts if part))
    more = f"; and {len(stacks) - _NAMED} more" if len(stacks) > _NAMED else ""
    return "; ".join(texts) + more


def _first_file(found: Scan) -> Path:
    return next((series.files[0] for series in found.series), found.root)
