"""DICOM files are recognised, opened and read."""

from __future__ import annotations

import gzip
import json
import logging
import os
import pickle
import struct
import threading
import warnings
from pathlib import Path

import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from medseg_nca.errors import ImageError
from medseg_nca.io.dicom.files import layout
from medseg_nca.io.dicom.files.reader import DicomError, looks_like_dicom, read_file, read_header
from medseg_nca.io.dicom.quiet import quiet
from tests.io.dicom import build
from tests.io.dicom.written import one, refused


def packaged(name: str) -> Path:
    """A file that comes with pydicom."""
    path = get_testdata_file(name, download=False)
    assert path is not None
    return Path(str(path))


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

        # No file is known that makes pydicom raise these; its next version may find one.
        monkeypatch.setattr("pydicom.filereader.read_dataset", strange)
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
