"""What NRRD and MetaImage share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg_nca.io.itk import from_itk, to_itk
from medseg_nca.io.volume import Volume


def write_itk(volume: Volume, path: Path) -> None:
    """Write with SimpleITK; several channels become vector pixels."""
    import SimpleITK as sitk  # noqa: N813

    vector = volume.array.shape[0] > 1
    array: NDArray[Any] = volume.array.transpose(*range(volume.dims, 0, -1), 0)
    array = np.ascontiguousarray(array if vector else array[..., 0])
    image: Any = sitk.GetImageFromArray(array, isVector=vector)
    geometry = _geometry(volume)
    image.SetOrigin(geometry["origin"])
    image.SetSpacing(geometry["spacing"])
    image.SetDirection(geometry["direction"])
    try:
        sitk.WriteImage(image, str(path), useCompression=True)
    except RuntimeError as error:  # SimpleITK's only exception, also for a full disk
        raise OSError(str(error).strip().splitlines()[-1]) from error


def _geometry(volume: Volume) -> dict[str, Any]:
    """The numbers of the input's header if they still hold, so that not even rounding differs."""
    known = volume.header.get("itk")
    if known and len(known["spacing"]) == volume.dims and np.allclose(
        from_itk(known), volume.affine
    ):  # fmt: skip
        return dict(known)
    return to_itk(volume.affine, volume.dims)
