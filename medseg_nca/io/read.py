"""Read images and label maps of every supported format."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medseg_nca.errors import ImageError
from medseg_nca.io.checks import check_affine, check_file, check_values
from medseg_nca.io.formats import AS_ONE, DETACHED, DICOM, ITK, NIFTI, SUFFIXES, image_suffix
from medseg_nca.io.grid import grid_difference
from medseg_nca.io.volume import Volume

if TYPE_CHECKING:
    from medseg_nca.io.dicom.annotations.legend import Legend

# Labels that went through 32-bit scales or resampling with nearest neighbours miss their whole
# number by less; values in between, as interpolation makes them, miss it by more.
_ROUNDING = 1e-3
_MOST_ROUNDING = 0.05


def read_volume(path: Path, *, allow_4d: bool = True) -> Volume:
    """Read one file as ``(C, x, y, z)`` or ``(C, x, y)``, affine in RAS+ mm.

    NIfTI: the fourth axis becomes the channels. NRRD, MHA: LPS is turned to RAS by the affine, the
    array stays as it is. PNG, JPEG, BMP, TIFF: see :mod:`medseg_nca.io.raster`. DICOM: one file, or
    a folder with one volume, see :mod:`medseg_nca.io.dicom.read`.

    Args:
        path: the file, or a folder with DICOM files.
        allow_4d: whether a volume may have several channels.

    Raises:
        ImageError: if the file is missing, unreadable, truncated or of an unknown format, claims an
            absurd size, holds NaN or infinity, or is 4D and that is not allowed.
    """
    path = Path(path)
    volume = _read(path, label=False)
    if not allow_4d and volume.array.shape[0] > 1 and volume.dims == 3:
        raise _four_axes(volume)
    return volume


def read_values(path: Path) -> Volume:
    """Read one file as :func:`read_volume` does, and let NaN pass: it says that nothing is known.

    Raises:
        ImageError: as :func:`read_volume`, but for NaN.
    """
    return _read(Path(path), label=False, unknown=True)


def read_image(paths: Sequence[Path]) -> Volume:
    """Read the channels of one image: one file with all of them, or one file each.

    The DICOM files of one volume are no channels: they give one image.

    Raises:
        ImageError: as :func:`read_volume`; also if the files lie on different grids.
    """
    if len(paths) == 1:
        return read_volume(paths[0])
    if not paths:
        raise ImageError("An image needs at least one file.")
    if Path(paths[0]).is_file() and _is_dicom(Path(paths[0])):
        return _read_dicom([Path(path) for path in paths])
    volumes = [read_volume(path, allow_4d=False) for path in paths]
    first = volumes[0]
    for volume in volumes:
        if volume.array.shape[0] != 1:
            raise ImageError(
                f"{volume.sources[0]}: holds {volume.array.shape[0]} channels, and is one of "
                f"{len(paths)} files of one image.",
                hint="Give one file per channel, or one file with all channels.",
            )
        difference = grid_difference(first, volume)
        if difference:
            raise ImageError(
                f"{volume.sources[0]}: lies on another grid than {first.sources[0]}: {difference}.",
                hint="Resample the channels of a case to one grid.",
            )
    array = np.concatenate([volume.array for volume in volumes])
    return Volume(array, first.affine, tuple(Path(path) for path in paths), first.header)


def read_label(path: Path, image: Volume | None = None, segments: Legend | None = None) -> Volume:
    """Read a label map as integers, ``(1, x, y, z)`` or ``(1, x, y)``.

    The indices of a palette picture are the labels; a picture whose colour channels are equal
    counts as grey; floating-point and scaled files are taken if every value is a whole number, up
    to a rounding of 0.001 or half a step of the scale. A DICOM SEG or RTSTRUCT is placed on the
    grid of its image.

    Args:
        path: the file.
        image: its image, which a SEG or an RTSTRUCT cannot be read without.
        segments: what their segments are numbered by; their order in the file if not given.

    Raises:
        ImageError: as :func:`read_volume`; also for several channels or fractional values, and for
            a SEG or an RTSTRUCT that does not belong to the image.
    """
    path = Path(path)
    if path.is_file() and _is_dicom(path):
        return _read_annotation(path, image, segments)
    volume = _read(path, label=True)
    array = volume.array
    if volume.dims == 3 and array.shape[0] > 1:
        raise _four_axes(volume)
    if array.shape[0] > 1:
        if not (array == array[:1]).all():
            raise ImageError(
                f"{path}: is a colour picture; a label map has one number per pixel.",
                hint="Save the label numbers as a grey or palette picture.",
            )
        array = array[:1]
    return volume.with_array(_as_integers(path, volume.with_array(array)))


def _is_dicom(path: Path) -> bool:
    """Told by the content, as DICOM files have any name or none; a folder can be nothing else."""
    if image_suffix(path) is not None:
        return False
    if path.is_dir() or path.suffix.lower() in DICOM:
        return True
    from medseg_nca.io.dicom.files.reader import looks_like_dicom

    return looks_like_dicom(path)


def _read_dicom(paths: Sequence[Path]) -> Volume:
    from medseg_nca.io.dicom.read import read_dicom

    return read_dicom(paths)


def _read_annotation(path: Path, image: Volume | None, segments: Legend | None) -> Volume:
    from medseg_nca.io.dicom.annotations.assign import read_label_file

    if image is None:
        raise ImageError(
            f"{path}: is DICOM, and a SEG or RTSTRUCT is a label map only with its image.",
            hint="Make a data set of images and label maps: medseg-nca dicom import DIR --out OUT",
        )
    return read_label_file(path, image, segments)


def _read(path: Path, *, label: bool, unknown: bool = False) -> Volume:
    if path.exists() and _is_dicom(path):
        return _read_dicom([path])
    suffix = image_suffix(path)
    check_file(path)
    if path.name.lower().endswith(DETACHED):
        raise ImageError(
            f"{path}: is half of an image, the header or the voxels.",
            hint=AS_ONE,
        )
    if suffix is None:
        raise ImageError(
            f"{path}: is not of a known format.",
            hint=f"These can be read: {', '.join(SUFFIXES)}, and DICOM under any name.",
        )
    volume = _dispatch(path, suffix, label)
    check_affine(path, volume.affine)
    check_values(path, volume.array, unknown=unknown)
    return volume


def _dispatch(path: Path, suffix: str, label: bool) -> Volume:
    """Only the package that a format needs is imported."""
    if suffix in NIFTI:
        from medseg_nca.io.nifti import read_nifti

        return read_nifti(path)
    if suffix in ITK:
        from medseg_nca.io.itk import read_itk

        return read_itk(path)
    from medseg_nca.io.raster import read_raster

    return read_raster(path, label=label)


def _rounding(volume: Volume) -> float:
    """By how much a label may miss its whole number.

    Where the values are stored as whole numbers with a scale, a label is as near to its number as
    the scale's steps allow.
    """
    step = float(volume.header.get("step", 0.0))
    return max(_ROUNDING, min(0.501 * step, _MOST_ROUNDING))


def _as_integers(path: Path, volume: Volume) -> NDArray[Any]:
    array = volume.array
    if array.dtype.kind == "b":
        return array.astype(np.uint8)
    if array.dtype.kind != "f":
        return array
    whole: NDArray[Any] = np.rint(array)
    off = np.abs(array - whole)
    worst = int(off.argmax()) if off.size else 0
    if off.size and off.flat[worst] > _rounding(volume):
        value = array.flat[worst]
        raise ImageError(
            f"{path}: holds {value!s}; a label map has whole numbers.",
            hint="Was it resampled with interpolation, or is it an image?",
        )
    if float(np.abs(whole).max(initial=0)) >= 2**31:
        raise ImageError(f"{path}: holds numbers beyond 32 bits; labels are small numbers.")
    return whole.astype(np.int32)


def _four_axes(volume: Volume) -> ImageError:
    count = volume.array.shape[0]
    return ImageError(
        f"{volume.sources[0]}: is 4D ({count} volumes of {volume.shape}) where one 3D volume is "
        "expected.",
        hint="Split it into one file per volume.",
    )
