"""Which files are images, by their names."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from medseg_nca.errors import DataError

NIFTI = (".nii.gz", ".nii")
ITK = (".nrrd", ".mha")
# Names of files that are left out: each holds only the header or only the voxels of an image.
DETACHED = (".nhdr", ".mhd", ".hdr", ".img", ".hdr.gz", ".img.gz")
RASTER = (".png", ".jpg", ".jpeg", ".bmp")
TIFF = (".tif", ".tiff")
# Names that promise DICOM; most DICOM files have others, or no suffix at all.
DICOM = (".dcm", ".dicom", ".ima")
AS_ONE = "Save both as one file: .nii.gz, .nrrd or .mha."
SUFFIXES = NIFTI + ITK + RASTER + TIFF


def image_suffix(path: Path) -> str | None:
    """Return the suffix of an image that can be read (".nii.gz", ".png", ...), else None."""
    name = Path(path).name.lower()
    return next((suffix for suffix in SUFFIXES if name.endswith(suffix)), None)


def stem(path: Path) -> str:
    """Return the file's name without its image suffix: "a.nii.gz" gives "a"."""
    path = Path(path)
    suffix = image_suffix(path)
    return path.name[: -len(suffix)] if suffix else path.stem


SHOWN = 5
MOST_FOLDERS = 10_000  # a tree of more is not searched to its end


def in_short(names: Iterable[str]) -> str:
    """The first few of some names, and how many more there are."""
    known = list(names)
    more = f" and {len(known) - SHOWN} more" if len(known) > SHOWN else ""
    return ", ".join(known[:SHOWN]) + more


def folders_below(folder: Path) -> dict[Path, int]:
    """The sub-folders, at any depth, that hold images, and how many each; no hidden ones."""
    found: dict[Path, int] = {}
    for number, (place, names, files) in enumerate(os.walk(folder)):
        names[:] = sorted(name for name in names if not name.startswith("."))
        count = sum(1 for name in files if name[0] != "." and image_suffix(Path(name)))
        if number and count:
            found[Path(place)] = count
        if number >= MOST_FOLDERS:
            break
    return found


def half_images(folder: Path) -> str | None:
    """What to do about files in a folder that are the header or the voxels of an image only."""
    files = {path.name.lower(): path.name for path in folder.iterdir()}
    names = [
        name
        for lower, name in sorted(files.items())
        if lower.endswith((".mhd", ".nhdr"))
        or (lower.endswith(".hdr") and lower.removesuffix("hdr") + "img" in files)
    ]
    if not names:
        return None
    return f"Headers and voxels in files of their own ({in_short(names)}): {AS_ONE}"


def find_images(folder: Path, recursive: bool = False) -> list[Path]:
    """Return the images in a folder, sorted by path; hidden files and folders are passed over.

    Raises:
        DataError: if the folder does not exist or cannot be listed.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder.")
    try:
        found = sorted(folder.rglob("*") if recursive else folder.iterdir())
    except OSError as error:
        raise DataError(f"{folder}: cannot be listed ({error.strerror}).") from error
    return [path for path in found if image_suffix(path) and _visible(path, folder)]


def _visible(path: Path, folder: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
    return not hidden and path.is_file()
