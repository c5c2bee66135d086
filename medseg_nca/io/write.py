"""Write images and label maps; the format is told by the file's name."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from medseg_nca.errors import OutputError
from medseg_nca.io.atomic import atomic_file
from medseg_nca.io.formats import image_suffix
from medseg_nca.io.volume import Volume
from medseg_nca.io.writers.base import Writer
from medseg_nca.registry import ModuleRegistry

WRITERS = ModuleRegistry(
    "medseg_nca.io.writers", "WRITER", "output format", exclude=("base",), error=OutputError
)
# Module that writes a suffix, where it is not called like the suffix.
_MODULES = {".nii.gz": "nifti", ".nii": "nifti", ".tif": "tiff"}


def write_volume(volume: Volume, path: Path) -> None:
    """Write a volume, whole or not at all; the folder is created.

    A volume that was read from a file of the same format gets that file's header back. Integers
    are stored in the smallest type that holds them, so label maps keep their numbers.

    Raises:
        OutputError: if the format is unknown or cannot hold the volume, or the disk refuses.
    """
    path = Path(path)
    writer = _writer(path)
    if volume.dims not in writer.dims:
        raise OutputError(
            f"{path}: {path.suffix} files cannot hold an image of {volume.dims} axes.",
            hint="Use .nii.gz, .nrrd or .mha.",
        )
    with atomic_file(path) as temporary:
        writer.write(_compact(volume), temporary)


def _writer(path: Path) -> Writer:
    suffix = image_suffix(path) or "".join(path.suffixes[-1:])
    writer: Writer = WRITERS.get(_MODULES.get(suffix, suffix.removeprefix(".")))
    return writer


def _compact(volume: Volume) -> Volume:
    """Labels in the smallest integer type, reals in at most 32 bits."""
    array = volume.array
    if array.dtype.kind == "b":
        return volume.with_array(array.astype(np.uint8))
    if array.dtype == np.float16 or array.dtype == np.float64:
        return volume.with_array(array.astype(np.float32))
    if array.dtype.kind not in "iu" or array.dtype.itemsize == 1:
        return volume
    low, high = int(array.min(initial=0)), int(array.max(initial=0))
    for kind in (np.uint8, np.int16, np.uint16, np.int32):
        if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max:
            return volume.with_array(array.astype(kind))
    return volume
