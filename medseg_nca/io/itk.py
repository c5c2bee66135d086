"""Read NRRD and MetaImage (.mha): geometry by SimpleITK, voxels here.

SimpleITK gives back memory that nothing was written to where its decoder fails, and says so on
the terminal only. So it is asked for the header alone.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from medseg_nca.errors import ImageError
from medseg_nca.io.checks import DAMAGED, check_claim
from medseg_nca.io.itk_header import VoxelLayout, read_layout
from medseg_nca.io.streams import ONLY_GZIP, ZLIB_OR_GZIP, inflated, plain, whole
from medseg_nca.io.volume import Volume

# ITK counts in left, posterior, superior; this project in right, anterior, superior.
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True)
class ItkHeader:
    """What a header says.

    Attributes:
        layout: how the voxels lie in the file.
        spatial: voxels of the first three axes, or two.
        channels: components, or places on a fourth axis.
        geometry: origin, spacing and direction (LPS) as ITK gives them, the size, and the units.
        affine: 4x4, voxel index to RAS+ millimetres.
    """

    layout: VoxelLayout
    spatial: tuple[int, ...]
    channels: int
    geometry: dict[str, Any]
    affine: NDArray[np.float64]


def read_itk(path: Path) -> Volume:
    """Read one file of 2 or 3 axes; vector pixels or a fourth axis become the channels.

    Raises:
        ImageError: if the file is damaged or truncated, its voxels lie in another file, or it holds
            more than its header says.
    """
    header = read_itk_header(path)
    stored = _stored(path, header)
    array = stored.reshape(header.layout.sizes, order="F")
    if header.layout.components is not None:
        array = np.moveaxis(array, header.layout.components, -1)
    array = array.reshape(*header.spatial, header.channels, order="F")
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    if header.channels == 1:
        array = array[..., 0][None]
    else:
        array = np.ascontiguousarray(np.moveaxis(array, -1, 0))
    return Volume(array, header.affine, (path,), {"itk": header.geometry})


def read_itk_header(path: Path) -> ItkHeader:
    """Read the header of a .nrrd or .mha file, and no voxels.

    Raises:
        ImageError: if it cannot be understood, claims more than the file can hold, or ITK takes it
            for another image.
    """
    layout = read_layout(path)
    _check_claim(path, layout)
    geometry = _itk_geometry(path, layout)
    grid = layout.grid
    more = [n for n in grid[3:] if n != 1]
    components = 1 if layout.components is None else layout.sizes[layout.components]
    if len(grid) < 2 or len(more) + (components > 1) > 1:
        raise ImageError(
            f"{path}: has {len(grid)} axes {grid} and {components} components; 2 or 3 axes, and "
            "either a fourth or components, can be read.",
            hint="Split it into one file per volume.",
        )
    channels = math.prod(more) * components
    return ItkHeader(layout, grid[:3], channels, geometry, from_itk(geometry))


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
    """Turn ITK's origin, spacing and direction (LPS) into a 4x4 affine (RAS) in millimetres."""
    dims, unit = len(header["spacing"]), header.get("millimetres", 1.0)
    n = min(dims, 3)
    direction = np.array(header["direction"]).reshape(dims, dims)[:n, :n]
    lps = np.eye(4)
    lps[:n, :n] = direction * np.array(header["spacing"])[:n] * unit
    lps[:n, 3] = np.array(header["origin"][:n]) * unit
    return LPS_TO_RAS @ lps


def _check_claim(path: Path, layout: VoxelLayout) -> None:
    """Compare the header's claim with the file; the values of a text file are counted later."""
    check_claim(
        path, layout.sizes, layout.dtype.itemsize,
        compressed=layout.encoding != "raw",
        offset=layout.skip + (layout.offset if layout.encoding == "raw" else 0),
    )  # fmt: skip


def _itk_geometry(path: Path, layout: VoxelLayout) -> dict[str, Any]:
    """What ITK makes of the header, which must be an image of the size that we see in it."""
    import SimpleITK as sitk  # noqa: N813

    make: Any = sitk.ImageFileReader
    reader: Any = make()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise ImageError(
            f"{path}: has a header that cannot be used ({_reason(error)}).",
            hint="Save it anew with your imaging tool, or copy it again if it is damaged.",
        ) from error
    components = 1 if layout.components is None else layout.sizes[layout.components]
    seen = reader.GetSize(), reader.GetNumberOfComponents()
    if seen != (layout.grid, components):
        raise ImageError(
            f"{path}: has a header that can be taken in two ways: ITK sees the size {seen[0]} with "
            f"{seen[1]} components, where the header gives {layout.sizes}.",
            hint="Name the kinds of its axes, or save it anew with your imaging tool.",
        )
    dims, spacing = len(layout.grid), np.array(reader.GetSpacing())
    turned = np.where(spacing < 0, -1.0, 1.0)  # ITK does the same when it reads the voxels
    direction = np.array(reader.GetDirection()).reshape(dims, dims) * turned
    return {
        "origin": reader.GetOrigin(),
        "spacing": tuple(np.abs(spacing).tolist()),
        "direction": tuple(direction.ravel().tolist()),
        "size": layout.grid,
        "unit_lines": layout.units,
        "millimetres": layout.millimetres,
    }


def _stored(path: Path, header: ItkHeader) -> NDArray[Any]:
    """The values in the order of the file, all of them from a stream that was read to its end."""
    layout = header.layout
    count = math.prod(layout.sizes)
    volume = math.prod(header.spatial)
    try:
        with path.open("rb") as file:
            file.seek(layout.offset)
            if layout.encoding == "text":
                return _numbers(path, file.read(), count, volume, layout)
            length = layout.skip + count * layout.dtype.itemsize
            blocks = _blocks(path, file, layout, length)
            content = whole(path, blocks, length, volume * layout.dtype.itemsize)
    except (OSError, EOFError, ValueError, OverflowError, zlib.error) as error:
        raise ImageError(f"{path}: is damaged or truncated ({error}).", hint=DAMAGED) from error
    return np.frombuffer(content, layout.dtype, offset=layout.skip)


def _blocks(path: Path, file: BinaryIO, layout: VoxelLayout, length: int) -> Iterable[bytes]:
    if layout.encoding == "hex":
        return [bytes.fromhex(file.read().decode("ascii"))]
    if layout.encoding == "raw":
        if layout.at_end:
            file.seek(path.stat().st_size - length)
        return plain(file)
    return inflated(file, ONLY_GZIP if layout.encoding == "gzip" else ZLIB_OR_GZIP)


def _numbers(path: Path, text: bytes, count: int, volume: int, layout: VoxelLayout) -> NDArray[Any]:
    words = text[layout.skip :].replace(b",", b" ").split()
    if len(words) < count:
        raise ImageError(f"{path}: is truncated: {len(words):,} of {count:,} values.", hint=DAMAGED)
    if len(words) >= count + volume:
        raise ImageError(
            f"{path}: holds more than its header says: {len(words):,} values, not {count:,}.",
            hint="Mend its header, or split it into a file for each image.",
        )
    wide = np.array(words[:count]).astype(np.float64 if layout.dtype.kind == "f" else np.int64)
    array = wide.astype(layout.dtype)
    if layout.dtype.kind != "f" and not (array == wide).all():
        raise ValueError(f"values that are no {layout.dtype.name}")
    return array


def _reason(error: BaseException) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(error).__name__
