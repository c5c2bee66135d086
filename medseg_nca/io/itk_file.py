"""Write NRRD and MetaImage files by SimpleITK, and make sure that they are whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from medseg_nca.errors import ImageError
from medseg_nca.io.itk import read_itk


def write_itk_file(image: Any, path: Path, *, compress: bool) -> None:
    """Write a ``SimpleITK.Image`` to a new file, and read the file again.

    SimpleITK reports success where the disk takes the first bytes of a file and not the last: it
    does not ask whether the file could be closed.

    Args:
        image: the image, of 2 or 3 axes.
        path: the file; the suffix ``.nrrd`` or ``.mha`` is the format.
        compress: whether the voxels are packed.

    Raises:
        OSError: if the file cannot be written, or the disk did not take all of it. What is there of
            the file then stays.
    """
    import SimpleITK as sitk  # noqa: N813

    try:
        sitk.WriteImage(image, str(path), useCompression=compress)
    except RuntimeError as error:  # SimpleITK raises nothing else, even for a full disk
        raise OSError(str(error).strip().splitlines()[-1]) from error
    try:
        read_itk(path)
    except ImageError as error:
        raise OSError("the disk did not take the whole file; is it full?") from error
