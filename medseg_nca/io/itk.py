"""Read NRRD and MetaImage (.mha) with SimpleITK."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg_nca.errors import ImageError
from medseg_nca.io.checks import DAMAGED, check_claim
from medseg_nca.io.itk_header import Layout, read_layout, verify_zlib
from medseg_nca.io.volume import Volume

# ITK counts in left, posterior, superior; this project in right, anterior, superior.
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def read_itk(path: Path) -> Volume:
    """Read one file of 2 or 3 axes; vector pixels or a fourth axis become the channels.

    Raises:
        ImageError: if the file is damaged or truncated, or its voxels lie in another file.
    """
    import SimpleITK as sitk  # noqa: N813

    layout = read_layout(path)
    _check(path, layout)
    try:
        image: Any = sitk.ReadImage(str(path))
    except RuntimeError as error:
        raise ImageError(
            f"{path}: cannot be read, it is damaged or truncated ({_reason(error)}).", hint=DAMAGED
        ) from error
    dims, vector = image.GetDimension(), image.GetNumberOfComponentsPerPixel() > 1
    if dims not in (2, 3, 4) or (dims == 4 and vector):
        raise ImageError(f"{path}: has {dims} axes {image.GetSize()}; 2, 3 or 4 can be read.")
    array = sitk.GetArrayFromImage(image)
    header = {
        "origin": image.GetOrigin(),
        "spacing": image.GetSpacing(),
        "direction": image.GetDirection(),
    }
    return Volume(_channels_first(array, dims, vector), from_itk(header), (path,), {"itk": header})


def to_itk(affine: NDArray[np.float64], dims: int) -> dict[str, Any]:
    """Turn a RAS affine into ITK's origin, spacing and direction (LPS) of ``dims`` axes."""
    lps = LPS_TO_RAS @ affine
    columns = lps[:3, :3][:dims, :dims]
    spacing = np.linalg.norm(affine[:3, :3], axis=0)[:dims]
    direction = columns / spacing
    return {
        "origin": tuple(lps[:dims, 3].tolist()),
        "spacing": tuple(spacing.tolist()),
        "direction": tuple(direction.ravel().tolist()),
    }


def from_itk(header: dict[str, Any]) -> NDArray[np.float64]:
    """Turn ITK's origin, spacing and direction (LPS) into a 4x4 affine (RAS)."""
    dims = len(header["spacing"])
    n = min(dims, 3)
    direction = np.array(header["direction"]).reshape(dims, dims)[:n, :n]
    lps = np.eye(4)
    lps[:n, :n] = direction * np.array(header["spacing"])[:n]
    lps[:n, 3] = header["origin"][:n]
    return LPS_TO_RAS @ lps


def _check(path: Path, layout: Layout) -> None:
    if layout.detached:
        raise ImageError(
            f"{path}: its voxels lie in another file.", hint="Save header and voxels as one file."
        )
    check_claim(
        path, layout.shape, layout.item_bytes, compressed=layout.compressed, offset=layout.offset
    )
    if layout.compressed and path.name.lower().endswith(".mha"):
        verify_zlib(path, layout)


def _channels_first(array: NDArray[Any], dims: int, vector: bool) -> NDArray[Any]:
    """ITK's array is (z, y, x) with vector components last; ours is (C, x, y, z)."""
    if vector:
        array = np.moveaxis(array, -1, 0)
    elif dims == 3 or dims == 2:
        array = array[None]
    return np.ascontiguousarray(array.transpose(0, *range(array.ndim - 1, 0, -1)))


def _reason(error: BaseException) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(error).__name__
