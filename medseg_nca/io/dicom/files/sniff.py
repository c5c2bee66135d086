"""Tell DICOM files from others by their first bytes (PS3.10 section 7)."""

from __future__ import annotations

import struct
from pathlib import Path

_VRS = frozenset(
    b"AE AS AT CS DA DS DT FD FL IS LO LT OB OD OF OL OV OW PN SH SL SQ SS ST SV TM UC UI UL UN UR "
    b"US UT UV".split()
)
_LONG_VRS = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
_PREFIX = 132
# signedData to encryptedData of the Cryptographic Message Syntax: 1.2.840.113549.1.7.x.
_CMS = bytes.fromhex("06092a864886f70d0107")


def looks_like_dicom(path: Path) -> bool:
    """Whether a file is worth a closer look; reads its first kilobyte.

    True for files with the prefix DICM, and for those without preamble whose first elements are of
    group 0002 or 0008. False for what cannot be read.
    """
    try:
        path = Path(path)
        if not path.is_file():
            return False
        with path.open("rb") as stream:
            return meta_start(stream.read(1024), path.stat().st_size) is not None
    except OSError:
        return False


def meta_start(head: bytes, size: int) -> int | None:
    """Offset of the first element in a file of ``size`` bytes; None if it is not DICOM."""
    if head[128:_PREFIX] == b"DICM":
        return _PREFIX
    for order in "<>":
        if _starts_with_elements(head, size, order):
            return 0
    return None


def is_encrypted(head: bytes) -> bool:
    """Whether this is a message of the Cryptographic Message Syntax (PS3.15 B.8)."""
    return head[:1] == b"\x30" and _CMS in head[:32]


def meta_length(head: bytes) -> int:
    """The length of the group 0002 at the start, explicit little endian; 0 if there is none.

    Group lengths in files are often wrong, so the elements are counted.
    """
    return _meta(head)[0]


def meta_texts(head: bytes) -> dict[int, str]:
    """The values of the group 0002 at the start by tag, as text without padding."""
    return {
        tag: head[start:end].decode("ascii", "replace").strip(" \0")
        for tag, (start, end) in _meta(head)[1].items()
    }


def _meta(head: bytes) -> tuple[int, dict[int, tuple[int, int]]]:
    """Where the group 0002 ends, beyond ``head`` if it is cut, and where its values lie."""
    places: dict[int, tuple[int, int]] = {}
    position = 0
    while head[position : position + 2] == b"\x02\x00":
        implicit = not _explicit(head, position)
        step = _step(head, position, "<", implicit=implicit)
        if step is None:
            return len(head) + 1, places
        number = int.from_bytes(head[position + 2 : position + 4], "little")
        long = not implicit and head[position + 4 : position + 6] in _LONG_VRS
        places[2 << 16 | number] = (position + (12 if long else 8), position + step)
        position += step
    return position, places


def _starts_with_elements(head: bytes, size: int, order: str) -> bool:
    """Whether the first two elements are such as a data set starts with."""
    first = struct.unpack_from(f"{order}HH", head) if len(head) >= 8 else (0, 0)
    if first[0] not in ((2, 8) if order == "<" else (8,)) or first[1] > 0x0100:
        return False
    implicit = not _explicit(head, 0)
    if implicit and order == ">":
        return False
    step = _step(head, 0, order, implicit=implicit)
    if step is None or step > size or step % 2:
        return False
    if step + 8 > len(head):
        return step <= size and not implicit
    second = struct.unpack_from(f"{order}HH", head, step)
    return second > first and second[0] <= 0x20 and (implicit or _explicit(head, step))


def _explicit(head: bytes, position: int) -> bool:
    return head[position + 4 : position + 6] in _VRS


def _step(head: bytes, position: int, order: str, *, implicit: bool) -> int | None:
    """Bytes from one element to the next; None where its header is not complete."""
    if position + 12 > len(head):
        return None
    if implicit:
        return 8 + int(struct.unpack_from(f"{order}L", head, position + 4)[0])
    if head[position + 4 : position + 6] in _LONG_VRS:
        return 12 + int(struct.unpack_from(f"{order}L", head, position + 8)[0])
    return 8 + int(struct.unpack_from(f"{order}H", head, position + 6)[0])
