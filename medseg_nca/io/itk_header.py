"""The text headers of NRRD and MetaImage, as far as they say how many bytes follow.

They are read before SimpleITK opens the file, which takes the memory that a header asks for.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass
from pathlib import Path

from medseg_nca.errors import ImageError
from medseg_nca.io.checks import DAMAGED, MAX_BYTES

_MAX_HEADER = 1 << 20
_NRRD_BYTES = {
    1: ("signed char", "int8", "int8_t", "uchar", "unsigned char", "uint8", "uint8_t"),
    2: ("short", "short int", "signed short", "signed short int", "int16", "int16_t", "ushort",
        "unsigned short", "unsigned short int", "uint16", "uint16_t"),
    4: ("int", "signed int", "int32", "int32_t", "uint", "unsigned int", "uint32", "uint32_t",
        "float"),
    8: ("longlong", "long long", "long long int", "signed long long", "signed long long int",
        "int64", "int64_t", "ulonglong", "unsigned long long", "unsigned long long int", "uint64",
        "uint64_t", "double"),
}  # fmt: skip
_MET_BYTES = {
    "CHAR": 1, "UCHAR": 1, "SHORT": 2, "USHORT": 2, "INT": 4, "UINT": 4, "LONG": 4, "ULONG": 4,
    "LONG_LONG": 8, "ULONG_LONG": 8, "FLOAT": 4, "DOUBLE": 8,
}  # fmt: skip


@dataclass(frozen=True)
class Layout:
    """How the voxels lie in a file: all axes, bytes of a value, where they begin, how packed."""

    shape: tuple[int, ...]
    item_bytes: int
    offset: int
    compressed: bool
    detached: bool


def read_layout(path: Path) -> Layout:
    """Read the layout from the header of a .nrrd or .mha file.

    Raises:
        ImageError: if it has no such header, or one that cannot be understood.
    """
    try:
        with path.open("rb") as file:
            head = file.read(_MAX_HEADER)
        layout = _nrrd(head) if path.name.lower().endswith(".nrrd") else _mha(head)
    except OSError as error:
        raise ImageError(f"{path}: cannot be read ({error.strerror}).") from error
    except (KeyError, ValueError) as error:
        raise ImageError(
            f"{path}: has no {path.suffix[1:].upper()} header that can be read ({error}).",
            hint=DAMAGED,
        ) from error
    return layout


def verify_zlib(path: Path, layout: Layout) -> None:
    """Inflate a compressed MetaImage and compare length and checksum, which ITK does not.

    Raises:
        ImageError: if they are wrong.
    """
    expected = min(math.prod(layout.shape) * layout.item_bytes, MAX_BYTES)
    inflate, length = zlib.decompressobj(), 0
    try:
        with path.open("rb") as file:
            file.seek(layout.offset)
            while not inflate.eof and length <= expected and (packed := file.read(1 << 20)):
                length += len(inflate.decompress(packed))
    except (OSError, zlib.error) as error:
        raise ImageError(f"{path}: is damaged ({error}).", hint=DAMAGED) from error
    if not inflate.eof or length != expected:
        raise ImageError(
            f"{path}: is damaged or truncated ({length:,} of {expected:,} bytes).", hint=DAMAGED
        )


def _nrrd(head: bytes) -> Layout:
    if not head.startswith(b"NRRD"):
        raise ValueError("it does not begin with NRRD")
    text, offset = _before(head, b"\n\n")
    if b"\r\n\r\n" in head[:offset] or offset == len(head):
        text, offset = _before(head, b"\r\n\r\n")
    lines = (line for line in text.splitlines()[1:] if not line.startswith("#"))
    pairs = (line.partition(":") for line in lines if ":=" not in line)
    fields = {key.strip().lower(): value.strip() for key, _, value in pairs}
    kind = fields["type"].lower()
    item = next((size for size, names in _NRRD_BYTES.items() if kind in names), None)
    if item is None:
        raise ValueError(f"type {kind!r}")
    return Layout(
        tuple(int(n) for n in fields["sizes"].split()),
        item,
        offset,
        fields["encoding"].lower() not in {"raw"},
        "data file" in fields or "datafile" in fields,
    )


def _mha(head: bytes) -> Layout:
    marker = head.find(b"ElementDataFile")
    if marker < 0:
        raise ValueError("it has no ElementDataFile")
    end = head.find(b"\n", marker)
    text = head[: end if end >= 0 else len(head)].decode("latin-1")
    pairs = (line.partition("=") for line in text.splitlines())
    fields = {key.strip(): value.strip() for key, _, value in pairs}
    sizes = tuple(int(n) for n in fields["DimSize"].split())
    channels = int(fields.get("ElementNumberOfChannels", "1"))
    return Layout(
        sizes if channels == 1 else (*sizes, channels),
        _MET_BYTES[fields["ElementType"].removeprefix("MET_").removesuffix("_ARRAY")],
        len(head) if end < 0 else end + 1,
        fields.get("CompressedData", "False").lower() == "true",
        fields["ElementDataFile"].upper() != "LOCAL",
    )


def _before(head: bytes, mark: bytes) -> tuple[str, int]:
    """The text before a mark, and where the data after it begin."""
    position = head.find(mark)
    if position < 0:
        return head.decode("latin-1"), len(head)
    return head[:position].decode("latin-1"), position + len(mark)
