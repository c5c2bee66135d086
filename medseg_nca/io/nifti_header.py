"""The header of a NIfTI file as it is stored, and where it says that the voxels lie."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import nibabel as nib
import numpy as np
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from medseg_nca.errors import ImageError
from medseg_nca.io.checks import DAMAGED
from medseg_nca.io.content import describe, is_plain_nifti
from medseg_nca.io.nifti_affine import affine_mm, readable
from medseg_nca.io.streams import GZIP, ONLY_GZIP, inflated, plain

_KINDS = {348: nib.Nifti1Header, 540: nib.Nifti2Header}
_LINE_ENDS = ([0, 0, 0, 0], [13, 10, 26, 10])  # of NIfTI-2, which damage by line ends would change
_CONVERT = "Unpack or convert it to NIfTI, or copy it again from where it came from."
_FIRST = 4096  # bytes that are read of a file for its header
_MAX_OFFSET = 1 << 30  # the extensions before the voxels are some kilobytes
_ORDERS: dict[str, Literal["little", "big"]] = {"<": "little", ">": "big"}


@dataclass(frozen=True)
class NiftiHeader:
    """What a header says.

    Attributes:
        stored: nibabel's header, with what nibabel cannot read put right, by a rounding at most.
        shape: of the array, all axes, as they are stored.
        spatial: of one volume.
        channels: how many volumes.
        dtype: of the stored values, with their byte order.
        offset: bytes before the voxels.
        slope: that the stored values are multiplied by.
        inter: that is added then.
        affine: 4x4, voxel index to RAS+ millimetres.
    """

    stored: Any
    shape: tuple[int, ...]
    spatial: tuple[int, ...]
    channels: int
    dtype: np.dtype[Any]
    offset: int
    slope: float
    inter: float
    affine: NDArray[np.float64]

    @property
    def scaled(self) -> bool:
        """Whether the values are others than the stored ones."""
        return (self.slope, self.inter) != (1.0, 0.0)


def read_header(path: Path) -> NiftiHeader:
    """Read the header of a .nii or .nii.gz file, and no voxels.

    Raises:
        ImageError: if it is none, is damaged, or its numbers cannot be used.
    """
    stored = _stored(path, _beginning(path))
    try:
        shape, dtype = _shape(path, stored), _dtype(stored)
        offset = _offset(stored)
        slope, inter = stored.get_slope_inter()
    except (HeaderDataError, ValueError, OverflowError) as error:
        raise ImageError(
            f"{path}: has a NIfTI header that cannot be used ({error}).",
            hint="Save it anew with your imaging tool, or copy it again if it is damaged.",
        ) from error
    if dtype.fields is not None:
        raise ImageError(f"{path}: is a colour NIfTI; save one volume per colour instead.")
    spatial = shape[:3]
    affine = affine_mm(path, stored, spatial)
    return NiftiHeader(
        readable(path, stored, spatial), shape, spatial, math.prod(shape[3:]), dtype, offset,
        1.0 if slope is None else slope, inter or 0.0, affine,
    )  # fmt: skip


def _dtype(stored: Any) -> np.dtype[Any]:
    try:
        dtype: np.dtype[Any] = stored.get_data_dtype()
    except KeyError:
        dtype = np.dtype("V")
    if dtype.itemsize == 0:
        raise ValueError(f"datatype {int(stored['datatype'])} is none that can be read")
    return dtype


def _offset(stored: Any) -> int:
    """Where the voxels begin: behind the header, or where it says."""
    offset = int(stored["vox_offset"]) or int(stored.single_vox_offset)
    if not stored.single_vox_offset <= offset <= _MAX_OFFSET:
        raise ValueError(f"vox_offset is {offset}")
    return offset


def _beginning(path: Path) -> bytes:
    """The first bytes, unpacked; what is not what the name promises is refused by what it is."""
    packed = path.name.lower().endswith(".gz")
    try:
        with path.open("rb") as file:
            head = file.read(len(GZIP))
            file.seek(0)
            if packed == (head == GZIP):
                blocks = inflated(file, ONLY_GZIP, _FIRST) if packed else plain(file, _FIRST)
                return _first(blocks, max(_KINDS))
            found = describe(path)
            file.seek(0)
            renamed = _renamed(path, packed, file.read(max(_KINDS)))
    except (OSError, EOFError, zlib.error) as error:
        raise ImageError(
            f"{path}: cannot be read as NIfTI, it is damaged or truncated ({error}).", hint=DAMAGED
        ) from error
    promised = " packed by gzip" if packed else ""
    if found is None:
        raise ImageError(
            f"{path}: cannot be read as NIfTI{promised}: it is damaged, its first bytes are those "
            "of no known file.",
            hint=DAMAGED,
        )
    raise ImageError(
        f"{path}: cannot be read as NIfTI{promised}, as its name says: it is {found}.",
        hint=renamed or _CONVERT,
    )


def _first(blocks: Iterable[bytes], count: int) -> bytes:
    head = b""
    for block in blocks:
        head += block
        if len(head) >= count:
            break
    return head[:count]


def _renamed(path: Path, packed: bool, head: bytes) -> str | None:
    """Which name the file should have, if it is NIfTI under a wrong one."""
    if packed and is_plain_nifti(head):
        return f"Rename it to {path.name[:-3]}."
    if not packed and head.startswith(GZIP):
        return f"Rename it to {path.name}.gz if it is a packed NIfTI file."
    return None


def _stored(path: Path, head: bytes) -> Any:
    found_as = [
        (size, mark)
        for size in _KINDS
        for mark, order in _ORDERS.items()
        if int.from_bytes(head[:4], order) == size
    ]
    if not found_as:
        found = describe(path)
        raise ImageError(
            f"{path}: cannot be read as NIfTI: it has no such header"
            + (f", it is {found}." if found else "."),
            hint=_CONVERT if found else DAMAGED,
        )
    size, order = found_as[0]
    if len(head) < size:
        raise ImageError(f"{path}: is truncated: it ends within its header.", hint=DAMAGED)
    kind: Any = _KINDS[size]
    header: Any = kind(head[:size], order, check=False)
    if "eol_check" in header and header["eol_check"].tolist() not in _LINE_ENDS:
        raise ImageError(
            f"{path}: is damaged: line ends were changed in it, as by a transfer as text.",
            hint="Copy it again, as binary.",
        )
    if not _is_single(header):
        magic = header["magic"].item()
        raise ImageError(
            f"{path}: is no single NIfTI file: its header says (magic {magic!r}) that the voxels "
            "lie in another.",
            hint="Save header and voxels as one file: .nii or .nii.gz.",
        )
    return header


def _is_single(header: Any) -> bool:
    """Whether the voxels follow the header.

    Some programs write the mark of two files into one; then the voxels have a place behind it.
    """
    magic = header["magic"].item().rstrip(b"\0")
    if magic == header.single_magic.rstrip(b"\0"):
        return True
    marked = magic == header.pair_magic.rstrip(b"\0")
    return bool(marked and header["vox_offset"] >= header.single_vox_offset)


def _shape(path: Path, stored: Any) -> tuple[int, ...]:
    """All axes; those behind the third that have more than one place are one at most.

    An axis behind the second of size 0 has one place: it is how some say that there is none.
    """
    if not 1 <= int(stored["dim"][0]) <= 7:
        raise ValueError(f"dim[0] is {int(stored['dim'][0])}")
    said = tuple(int(n) for n in stored.get_data_shape())
    shape = (*said[:2], *(n or 1 for n in said[2:]))
    if len(shape) < 2 or sum(n != 1 for n in shape[3:]) > 1:
        raise ImageError(
            f"{path}: has {len(shape)} axes {shape}; 2 or 3, and one more for the channels, can be "
            "read.",
            hint="Split it into one file per volume.",
        )
    return shape
