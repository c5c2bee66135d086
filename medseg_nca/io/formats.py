"""Which files are images, by their names."""

from __future__ import annotations

from pathlib import Path

from medseg_nca.errors import DataError

NIFTI = (".nii.gz", ".nii")
# Detached headers (.nhdr, .mhd) are left out: their voxels lie in a second file.
ITK = (".nrrd", ".mha")
RASTER = (".png", ".jpg", ".jpeg", ".bmp")
TIFF = (".tif", ".tiff")
# Names that promise DICOM; most DICOM files have others, or no suffix at all.
DICOM = (".dcm", ".dicom", ".ima")
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
