"""DICOM files that claim more than they hold, or hold more than memory."""

from __future__ import annotations

import struct
import tracemalloc
import zlib
from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from medseg_nca.io.dicom.files import layout
from medseg_nca.io.dicom.files.reader import DicomError, read_header
from tests.io.dicom import build
from tests.io.dicom.written import ITEM, ITEM_END, SEQUENCE_END, element, one, refused, with_element

MiB = 2**20


def test_lengths_beyond_the_file_take_no_memory(tmp_path: Path) -> None:
    tracemalloc.start()
    try:
        path = with_element(tmp_path, element(0x7FDF1001, b"OB", b"x", 0xFFFFFFF0))
        refused(path, "truncated", "4,294,967,280 bytes")
        path = with_element(tmp_path, element(0x0040A730, b"SQ", b"", 0xFFFFFF00))
        refused(path, "truncated", "ContentSequence (0040,A730)")
        path = with_element(tmp_path, element(0x0040A730, b"SQ", ITEM + b"\xff" * 4, 0xFFFFFFFF))
        refused(path, "truncated", "ContentSequence")
        assert tracemalloc.get_traced_memory()[1] < 8 * MiB
    finally:
        tracemalloc.stop()


def test_deep_sequences_are_refused(tmp_path: Path) -> None:
    opening = element(0x0040A730, b"SQ", ITEM + b"\xff" * 4, 0xFFFFFFFF)
    path = with_element(tmp_path, opening * 5000 + (ITEM_END + SEQUENCE_END) * 5000)
    refused(path, "damaged", "nested more than")
    value = b""
    for _ in range(500):
        inner = element(0x0040A730, b"SQ", value)
        value = ITEM + struct.pack("<L", len(inner)) + inner
    refused(with_element(tmp_path, element(0x0040A730, b"SQ", value)), "damaged", "nested")


def test_sequences_of_some_depth_are_read(tmp_path: Path) -> None:
    inner = Dataset()
    inner.CodeValue = "inmost"
    for _ in range(10):
        outer = Dataset()
        outer.ContentSequence = Sequence([inner])
        inner = outer
    found = read_header(one(tmp_path / "a", ContentSequence=Sequence([inner])))
    for _ in range(11):
        found = found.ContentSequence[0]
    assert found.CodeValue == "inmost"


@pytest.mark.parametrize("length", [None, 0xFFFFFFFF])
def test_a_million_items_are_refused_before_they_are_objects(
    tmp_path: Path, length: int | None
) -> None:
    ending = b"" if length is None else SEQUENCE_END
    many = element(0x0040A730, b"SQ", (ITEM + bytes(4)) * (layout.MAX_ITEMS + 1), length) + ending
    refused(with_element(tmp_path, many), "too-large", "sequence items")


@pytest.mark.slow
def test_millions_of_elements_are_refused_before_they_are_objects(tmp_path: Path) -> None:
    many = element(0x30010000, b"UT", b"") * (layout.MAX_ELEMENTS + 1)
    refused(with_element(tmp_path, many), "too-large", "elements")


def test_a_header_of_hundreds_of_megabytes_is_refused_before_it_is_read(tmp_path: Path) -> None:
    """The file claims them truly, but has a hole there, so that it takes no room on the disk."""
    size = layout.MAX_HEADER + 2
    path = with_element(tmp_path, element(0x0040A160, b"UT", b"", size))
    content = path.read_bytes()
    start = content.index(element(0x0040A160, b"UT", b"", size)) + 12
    with path.open("r+b") as stream:
        stream.seek(start + size)
        stream.write(content[start:])
    refused(path, "too-large", "head")


def test_a_malformed_sequence_is_left_out(tmp_path: Path) -> None:
    for value in (b"\xfe\xff\x01\xe0" + bytes(4), ITEM + struct.pack("<L", 9999), b"\1" * 20):
        header = read_header(with_element(tmp_path, element(0x0040A730, b"SQ", value)))
        assert "ContentSequence" not in header
        assert header.Rows == 8


@pytest.mark.parametrize("claimed", [False, True])
def test_deflated_bombs_are_refused_in_little_memory(tmp_path: Path, claimed: bool) -> None:
    dataset = build.classic(build.pixels((1, 8, 6)))[0]
    dataset.PixelData = bytes(100 * MiB)
    if claimed:
        dataset.Rows, dataset.Columns = 100 * 64, 8192
    path = build.save(dataset, tmp_path / "bomb", build.DeflatedExplicitVRLittleEndian)
    del dataset
    assert path.stat().st_size < MiB
    tracemalloc.start()
    try:
        refused(path, "too-large", "deflated")
        assert tracemalloc.get_traced_memory()[1] < 80 * MiB
    finally:
        tracemalloc.stop()


def test_a_damaged_deflated_stream_is_refused(tmp_path: Path) -> None:
    data = build.save(
        build.classic(build.pixels((1, 8, 6)))[0],
        tmp_path / "a",
        build.DeflatedExplicitVRLittleEndian,
    ).read_bytes()
    start = len(data) - 700
    path = tmp_path / "b"
    path.write_bytes(data[:start] + b"\xff" * 700)
    with pytest.raises(DicomError) as caught:
        read_header(path)
    assert caught.value.problem.kind in ("damaged", "truncated")
    packer = zlib.compressobj(wbits=-15)
    meta = data[: 132 + 12 + struct.unpack_from("<L", data, 140)[0]]
    path.write_bytes(meta + packer.compress(b"") + packer.flush())
    refused(path, "truncated")
