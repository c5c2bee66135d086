"""DICOM files for tests that are written byte by byte, and how they are refused."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from medseg_nca.io.dicom.files.reader import DicomError, read_file, read_header
from tests.io.dicom import build

ITEM = b"\xfe\xff\x00\xe0"
ITEM_END = b"\xfe\xff\x0d\xe0\0\0\0\0"
SEQUENCE_END = b"\xfe\xff\xdd\xe0\0\0\0\0"


def one(path: Path, **tags: object) -> Path:
    """A CT plane of 8 x 6 pixels."""
    return build.save(build.classic(build.pixels((1, 8, 6)), **tags)[0], path)


def element(tag: int, vr: bytes, value: bytes, length: int | None = None) -> bytes:
    """An explicit little-endian element with a length of 32 bits, true or not."""
    count = len(value) if length is None else length
    return struct.pack("<HH2sHL", tag >> 16, tag & 0xFFFF, vr, 0, count) + value


def with_element(folder: Path, extra: bytes) -> Path:
    """A plane with more bytes before its pixel data."""
    data = one(folder / "plain.dcm").read_bytes()
    split = data.rfind(b"\xe0\x7f\x10\x00")
    path = folder / "extra.dcm"
    path.write_bytes(data[:split] + extra + data[split:])
    return path


def refused(path: Path, kind: str, *words: str) -> str:
    """Reading header and file both raise that kind, with the path and the words."""
    for read in (read_header, read_file):
        with pytest.raises(DicomError) as caught:
            read(path)
        assert caught.value.problem.kind == kind, caught.value.problem.message
        for word in (str(path), *words):
            assert word in caught.value.problem.message
        for secret in build.SECRETS:
            assert secret not in str(caught.value)
    return str(caught.value)
