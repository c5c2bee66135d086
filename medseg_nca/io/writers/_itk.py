"""What NRRD and MetaImage share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg_nca.io.itk import from_itk, to_itk
from medseg_nca.io.itk_file import write_itk_file
from medseg_nca.io.volume import Volume


def write_itk(volume: Volume, path: Path, *, header_end: bytes) -> None:
    """Write with SimpleITK; several channels become vector pixels.

    Args:
        volume: what to write.
        path: the file.
        header_end: with what the last part of the format's header begins, before which a line can
            be added.

    Raises:
        OSError: if the file cannot be written, or the disk did not take all of it.
    """
    import SimpleITK as sitk  # noqa: N813

    vector = volume.array.shape[0] > 1
    array: NDArray[Any] = volume.array.transpose(*range(volume.dims, 0, -1), 0)
    array = np.ascontiguousarray(array if vector else array[..., 0])
    geometry = _geometry(volume)
    if not vector:
        array = array.reshape(geometry.get("size", volume.shape)[::-1])
    image: Any = sitk.GetImageFromArray(array, isVector=vector)
    image.SetOrigin(geometry["origin"])
    image.SetSpacing(geometry["spacing"])
    image.SetDirection(geometry["direction"])
    write_itk_file(image, path, compress=True)
    if lines := geometry.get("unit_lines"):
        _add(path, lines, header_end)


def _add(path: Path, lines: Sequence[str], header_end: bytes) -> None:
    """Name the unit of the lengths as the input did: SimpleITK writes none."""
    content = path.read_bytes()
    place = content.index(header_end) + 1
    added = "".join(f"{line}\n" for line in lines).encode()
    path.write_bytes(content[:place] + added + content[place:])


def _geometry(volume: Volume) -> dict[str, Any]:
    """The numbers of the input's header if they still hold, so that not even rounding differs."""
    known = volume.header.get("itk")
    if known is None or not np.allclose(from_itk(known), volume.affine):
        return to_itk(volume.affine, volume.dims)
    size = known["size"]
    if size[: volume.dims] != volume.shape or any(n != 1 for n in size[volume.dims :]):
        return _without_more_axes(known, volume)
    if len(size) > volume.dims and volume.array.shape[0] > 1:
        return _without_more_axes(known, volume)
    return dict(known)


def _without_more_axes(known: dict[str, Any], volume: Volume) -> dict[str, Any]:
    """Those of the first axes: what was on the fourth is not in this volume."""
    dims, given = volume.dims, len(known["spacing"])
    direction = np.array(known["direction"]).reshape(given, given)[:dims, :dims]
    return {
        "origin": known["origin"][:dims],
        "spacing": known["spacing"][:dims],
        "direction": tuple(direction.ravel().tolist()),
        "unit_lines": known["unit_lines"],
    }
