"""Files that are cut, damaged, hostile or no DICOM at all are refused by kind."""

from __future__ import annotations

import gzip
import json
import logging
import os
import pickle
import struct
import threading
import tracemalloc
import warnings
import zlib
from pathlib import Path

import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from medseg_nca.errors import ImageError
from medseg_nca.io.dicom.files import layout
from medseg_nca.io.dicom.files import reader as files
from medseg_nca.io.dicom.files.reader import DicomError, looks_like_dicom, read_file, read_header
from medseg_nca.io.dicom.quiet import quiet
from tests.io.dicom import build

MiB = 2**20
ITEM = b"\xfe\xff\x00\xe0"
ITEM_END = b"\xfe\xff\x0d\xe0\0\0\0\0"
SEQUENCE_END = b"\xfe\xff\xdd\xe0\0\0\0\0"


def packaged(name: str) -> Path:
    """A file that comes with pydicom."""
    path = get_testdata_file(name, download=False)
    assert path is not None
    return Path(str(path))


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


@pytest.mark.parametrize(
    "name",
    [
        "CT_small.dcm",
        "MR_small_bigendian.dcm",
        "ExplVR_LitEndNoMeta.dcm",
        "ExplVR_BigEndNoMeta.dcm",
        "meta_missing_tsyntax.dcm",
        "rtstruct.dcm",
        "image_dfl.dcm",
        "DICOMDIR",
    ],
)
def test_dicom_is_recognised_with_and_without_preamble(name: str) -> None:
    assert looks_like_dicom(packaged(name))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x08",
        b"\x08\x00",
        b"\x08\x00\x05\x00CS\x0a\x00",
        b"\x89PNG\r\n\x1a\n" + bytes(200),
        struct.pack("<i", 348) + bytes(400),
        json.dumps({"00080005": {"vr": "CS"}}).encode(),
        gzip.compress(b"\x08\x00\x05\x00" * 100, mtime=0),
        b"\x02\x00" * 600,
        b"\x08\x00" * 600,
        bytes(1024),
        b"plain text " * 100,
        b"\x08\x00\x00\x00\xff\xff\xff\x7f" + bytes(500),
        bytes(128) + b"DICX" + bytes(100),
    ],
)
def test_other_files_are_not_taken_for_dicom(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file.dcm"
    path.write_bytes(content)
    assert not looks_like_dicom(path)
    refused(path, "not-dicom" if content else "empty")


def test_what_cannot_be_opened_looks_like_nothing(tmp_path: Path) -> None:
    assert not looks_like_dicom(tmp_path)
    assert not looks_like_dicom(tmp_path / "none.dcm")
    refused(tmp_path, "unreadable", "not a file")
    os.mkfifo(tmp_path / "pipe")
    assert not looks_like_dicom(tmp_path / "pipe")
    refused(tmp_path / "pipe", "unreadable", "not a file")
    refused(tmp_path / "none.dcm", "unreadable", "No such file")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_unreadable(tmp_path: Path) -> None:
    path = one(tmp_path / "a.dcm")
    path.chmod(0)
    refused(path, "unreadable", "Permission denied")


@pytest.mark.parametrize("syntax", [*build.NATIVE, *build.LOSSLESS], ids=lambda s: s.keyword)
def test_header_and_file_hold_what_was_written(tmp_path: Path, syntax: str) -> None:
    written = build.classic(build.pixels((1, 40, 36)))[0]
    path = build.save(written, tmp_path / "a", syntax)
    header, whole = read_header(path), read_file(path)
    reference = pydicom.dcmread(path)
    assert "PixelData" not in header
    assert whole.PixelData == reference.PixelData
    assert whole.file_meta == reference.file_meta
    assert [e for e in whole if e.keyword != "PixelData"] == list(header)
    assert {e.tag for e in whole} == {e.tag for e in reference}
    for written_element in written:
        if written_element.keyword != "PixelData":
            assert header[written_element.tag].value == written_element.value
    assert header.filename == str(path)


def test_a_file_can_be_written_again(tmp_path: Path) -> None:
    for syntax in (*build.NATIVE, *build.LOSSLESS):
        path = build.save(build.classic(build.pixels((1, 40, 36)))[0], tmp_path / "a", syntax)
        read_file(path).save_as(tmp_path / "b")
        assert pydicom.dcmread(tmp_path / "b") == pydicom.dcmread(path)


def test_bulk_is_left_out_of_the_header(tmp_path: Path) -> None:
    bulk = bytes(layout.BULK + 2)
    path = one(tmp_path / "a", EncapsulatedDocument=bulk, ICCProfile=bytes(100))
    assert "EncapsulatedDocument" not in read_header(path)
    assert "ICCProfile" in read_header(path)


@pytest.mark.parametrize(
    ("uid", "name"),
    [
        ("1.2.840.10008.1.2.4.100", "MPEG2"),
        ("1.2.840.10008.1.2.4.102", "MPEG-4"),
        ("1.2.840.10008.1.2.4.107", "HEVC"),
        ("1.2.840.10008.1.2.4.94", "JPIP"),
        ("1.2.840.10008.1.2.4.110", "JPEG XL Lossless"),
        ("1.2.840.10008.1.2.7.1", "SMPTE"),
        ("1.2.840.10008.1.2.4.92", "Part 2"),
        ("1.2.840.10008.1.2.4.53", "1.2.840.10008.1.2.4.53"),
        ("1.2.840.113619.5.2", "rivate"),
        ("1.2.3.4", "a private transfer syntax (1.2.3.4)"),
        ("1.2.840.10008.1.2.9.9", "does not know"),
    ],
)
def test_undecodable_syntaxes_are_refused_by_name(tmp_path: Path, uid: str, name: str) -> None:
    data = one(tmp_path / "a").read_bytes()
    group = struct.unpack_from("<L", data, 140)[0]
    padded = uid.encode() + b"\0" * (len(uid) % 2)
    meta = struct.pack("<HH2sH", 2, 0x10, b"UI", len(padded)) + padded
    path = tmp_path / "b"
    path.write_bytes(data[:132] + meta + data[144 + group :])
    refused(path, "unsupported-syntax", name)


def test_a_dicomdir_and_encrypted_files_have_kinds_of_their_own(tmp_path: Path) -> None:
    refused(packaged("DICOMDIR"), "dicomdir")
    envelope = tmp_path / "envelope.p7m"
    envelope.write_bytes(bytes.fromhex("30820400 06092a864886f70d010703 a0820300") + bytes(900))
    refused(envelope, "encrypted", "Secure DICOM")
    hidden = build.classic(build.pixels((1, 8, 6)))[0]
    del hidden.PixelData, hidden.Rows
    item = Dataset()
    item.EncryptedContentTransferSyntaxUID = "1.2.840.10008.1.2.1"
    item.EncryptedContent = bytes(64)
    hidden.EncryptedAttributesSequence = Sequence([item])
    refused(build.save(hidden, tmp_path / "b"), "encrypted", "encrypted attributes")
    # Identity in encrypted attributes beside clear pixels is a de-identified image.
    clear = one(tmp_path / "c", EncryptedAttributesSequence=Sequence([item]))
    assert read_header(clear).Rows == 8


@pytest.mark.parametrize(
    "syntax", [*build.NATIVE, build.DeflatedExplicitVRLittleEndian, build.RLELossless]
)
def test_a_file_cut_anywhere_is_refused(tmp_path: Path, syntax: str) -> None:
    data = build.save(
        build.classic(build.pixels((1, 8, 6)))[0], tmp_path / "a", syntax
    ).read_bytes()
    path = tmp_path / "cut"
    # The last bytes of a deflated stream may be padding.
    for size in (*range(1, len(data) - 7, 13), len(data) - 7):
        path.write_bytes(data[:size])
        with pytest.raises(DicomError) as caught:
            read_header(path)
        kinds = ("truncated",) if size >= 160 else ("truncated", "not-dicom", "empty")
        assert caught.value.problem.kind in kinds, (size, caught.value.problem)


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    data = one(tmp_path / "a").read_bytes()
    path = tmp_path / "cut"
    path.write_bytes(data[:-10])
    refused(path, "truncated", "1 x 8 x 6 pixels", "96 bytes; 86 of them")
    path.write_bytes(data[: data.index(b"Synthetic study") + 4])
    refused(path, "truncated", "StudyDescription (0008,1030)")
    path.write_bytes(data[: data.rfind(b"\xe0\x7f\x10\x00")])
    refused(path, "truncated", "pixel data (7FE0,0010) is missing", "RescaleType")
    short = one(tmp_path / "b", NumberOfFrames=3)
    refused(short, "truncated", "3 x 8 x 6", "288 bytes; 96 of them")
    packed = build.save(build.enhanced(build.pixels((2, 8, 6))), tmp_path / "c", build.RLELossless)
    packed.write_bytes(packed.read_bytes().replace(b"IS\x02\x002 ", b"IS\x02\x0099"))
    refused(packed, "truncated", "99 frames; 2 of")


@pytest.mark.parametrize(
    ("tags", "kind"),
    [
        ({"Rows": 65535, "Columns": 65535}, "too-large"),
        ({"NumberOfFrames": 2**31 - 1}, "too-large"),
        ({"NumberOfFrames": -4}, "damaged"),
        ({"Rows": 0}, "damaged"),
        ({"Columns": None}, "damaged"),
        ({"BitsAllocated": None}, "damaged"),
        ({"Rows": [8, 8]}, "damaged"),
    ],
)
def test_impossible_claims_are_refused(tmp_path: Path, tags: dict[str, object], kind: str) -> None:
    refused(one(tmp_path / "a", **tags), kind)


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
def test_millions_of_items_are_refused_before_they_are_objects(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, length: int | None
) -> None:
    monkeypatch.setattr(layout, "MAX_ITEMS", 1000)
    ending = b"" if length is None else SEQUENCE_END
    many = element(0x0040A730, b"SQ", (ITEM + bytes(4)) * 2000, length) + ending
    refused(with_element(tmp_path, many), "too-large", "sequence items")
    monkeypatch.setattr(layout, "MAX_ELEMENTS", 1000)
    many = b"".join(element(0x30010000 + k, b"UT", b"") for k in range(2000))
    refused(with_element(tmp_path, many), "too-large", "elements")
    monkeypatch.setattr(layout, "MAX_ELEMENTS", 10_000)
    monkeypatch.setattr(layout, "MAX_HEADER", 10_000)
    refused(with_element(tmp_path, element(0x0040A160, b"UT", b"a" * 20_000)), "too-large", "head")


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


def test_odd_values_neither_warn_nor_stop_the_reading(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = one(tmp_path / "a", SeriesNumber=7, EchoTime="10.5")
    data = path.read_bytes()
    for old, new in (
        (b"ISO_IR 192", b"NO_SUCH_99"),
        (b"\x10\x00\x20\x00LO", b"\x10\x00\x20\x00XQ"),
        (b"DS\x04\x0010.5", b"DS\x04\x00x0.5"),
        (b"Zorrofake", b"Zorr\xff\xfeke\xe9"),
        (b"DA\x08\x0020200102", b"DA\x08\x0099999999"),
    ):
        assert old in data
        data = data.replace(old, new)
    path.write_bytes(data)
    mode = pydicom.config.settings.reading_validation_mode
    with warnings.catch_warnings(), caplog.at_level(logging.DEBUG):
        warnings.simplefilter("error")
        header = read_file(path)
        for item in header.iterall():
            str(item.value)
    assert "EchoTime" not in header  # it is no number
    assert header.StudyDate == "99999999"
    assert "Zorr" in str(header.PatientName)
    assert header.SeriesNumber == 7
    assert not caplog.records
    assert pydicom.config.settings.reading_validation_mode == mode


def test_files_that_break_their_own_syntax_are_read(tmp_path: Path) -> None:
    dataset = pydicom.dcmread(one(tmp_path / "a"))
    data = (tmp_path / "a").read_bytes()
    lying = tmp_path / "lying"
    lying.write_bytes(data.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2\0\0\0"))
    assert read_file(lying).PixelData == dataset.PixelData
    bare = tmp_path / "bare"
    bare.write_bytes(data[132:])
    assert read_file(bare).PixelData == dataset.PixelData
    start = data.index(b"\x08\x00\x05\x00CS")
    bare.write_bytes(data[start:])
    assert read_file(bare).PixelData == dataset.PixelData


def test_whatever_pydicom_raises_becomes_a_dicom_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = one(tmp_path / "a")
    for error, kind in (
        (KeyError("odd"), "damaged"),
        (RecursionError("deep"), "damaged"),
        (OSError("no errno"), "damaged"),
        (MemoryError(), "too-large"),
    ):

        def strange(*_: object, error: BaseException = error, **__: object) -> None:
            raise error

        monkeypatch.setattr(files, "_parse", strange)
        refused(path, kind)


def test_errors_cross_processes(tmp_path: Path) -> None:
    with pytest.raises(ImageError) as caught:
        read_header(tmp_path / "none")
    copy = pickle.loads(pickle.dumps(caught.value))
    assert isinstance(copy, DicomError)
    assert (copy.problem, copy.hint) == (caught.value.problem, caught.value.hint)


def test_settings_are_as_before_after_threads(tmp_path: Path) -> None:
    path = one(tmp_path / "a")
    mode, filters = pydicom.config.settings.reading_validation_mode, list(warnings.filters)
    threads = [
        threading.Thread(target=lambda: [read_header(path) for _ in range(20)]) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert pydicom.config.settings.reading_validation_mode == mode
    assert warnings.filters == filters
    assert logging.getLogger("pydicom").propagate
    with pytest.raises(ZeroDivisionError), quiet():
        raise ZeroDivisionError
    assert not logging.getLogger("pydicom").disabled
