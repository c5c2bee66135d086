"""What a file holds, told by its first bytes, where its name promises something else."""

from __future__ import annotations

import zlib
from pathlib import Path

_HEAD = 4096
_BEGINNINGS = {
    b"\x1f\x8b": "a gzip file",
    b"BZh": "packed by bzip2",
    b"\xfd7zXZ\0": "packed by xz",
    b"\x28\xb5\x2f\xfd": "packed by zstd",
    b"PK\x03\x04": "a zip archive",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
    b"Rar!": "a rar archive",
    b"NRRD": "NRRD (.nrrd)",
    b"ObjectType": "MetaImage (.mha)",
    b"NDims": "MetaImage (.mha)",
    b"Comment": "MetaImage (.mha)",
    b"\x89HDF": "HDF5",
    b"MATLAB": "a MATLAB file",
    b"\x93NUMPY": "a numpy file",
    b"\x89PNG": "a PNG picture",
    b"\xff\xd8\xff": "a JPEG picture",
    b"II*\0": "a TIFF picture",
    b"MM\0*": "a TIFF picture",
    b"%PDF": "a PDF document",
    b"version https://git-lfs": "a Git LFS pointer, which stands for a file that was not fetched",
    b"<!DOCTYPE": "a web page",
    b"<html": "a web page",
    b"<?xml": "an XML document",
}
_NIFTI = {344: (b"n+1\0", b"ni1\0"), 4: (b"n+2\0", b"ni2\0")}
_MEMBERS = (b"\0\0\1\x5c", b"\x5c\1\0\0")  # a NIfTI-1 or Analyze header has 348 bytes


def describe(path: Path) -> str | None:
    """Say what a file holds, in words that follow "is"; None where its beginning tells nothing.

    Raises:
        OSError: if it cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(_HEAD)
    if is_plain_nifti(head):
        return "NIfTI that is not packed"
    if not head.startswith(b"\x1f\x8b"):
        return _kind(head)
    inside = _kind(_inflated(head))
    return f"packed by gzip, with {inside} inside" if inside else "packed by gzip"


def is_plain_nifti(head: bytes) -> bool:
    """Whether these are the first bytes of a NIfTI file that is not packed."""
    return any(head[at : at + 4] in marks for at, marks in _NIFTI.items())


def _kind(head: bytes) -> str | None:
    if is_plain_nifti(head):
        return "NIfTI"
    if head[128:132] == b"DICM":
        return "DICOM"
    if head[257:262] == b"ustar":
        return "a tar archive"
    if head[:4] in _MEMBERS:
        return "an Analyze header, which has its voxels in another file"
    known = (text for start, text in _BEGINNINGS.items() if head.lower().startswith(start.lower()))
    return next(known, None)


def _inflated(head: bytes) -> bytes:
    try:
        return zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(head, _HEAD)
    except zlib.error:
        return b""
