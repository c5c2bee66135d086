"""A scan reads elements as they lie in the file: it finds what full reading finds, as safely."""

from __future__ import annotations

import struct
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import DeflatedExplicitVRLittleEndian

from medseg_nca.io.dicom.files import layout
from medseg_nca.io.dicom.files.attributes import Attributes, group_values, tag_of
from medseg_nca.io.dicom.files.reader import DicomError, read_header, scanned
from medseg_nca.io.dicom.quiet import quiet
from medseg_nca.io.dicom.records import Problem
from medseg_nca.io.dicom.scan import read_files, scan
from medseg_nca.io.dicom.series.instances import TAGS, Instance, read_instance
from tests.io.dicom import build
from tests.io.dicom.written import ITEM, ITEM_END, SEQUENCE_END, element, with_element

SYNTAXES = [*build.NATIVE, DeflatedExplicitVRLittleEndian]
UNDEFINED = 0xFFFFFFFF


def both(path: Path) -> tuple[Instance, Instance]:
    """What a scan makes of a file, and what is made of the header that pydicom has parsed."""
    with scanned(path) as elements:
        quick = read_instance(path, elements)
    return quick, read_instance(path, read_header(path))


def private(dataset: Dataset, group: int, creator: str, **elements: tuple[str, Any]) -> None:
    block = dataset.private_block(group, creator, create=True)
    for name, (vr, value) in elements.items():
        block.add_new(int(name.removeprefix("x"), 16), vr, value)


def rich(modality: str = "MR", **tags: Any) -> Dataset:
    """A plane with private numbers, nested sequences and texts beyond ASCII."""
    dataset = build.classic(build.pixels((1, 8, 6)), modality=modality, **tags)[0]
    dataset.SeriesDescription, dataset.StudyDescription = "Schädel Größe", "頭部"
    dataset.PatientID, dataset.ConvolutionKernel = "ÄÖ-1", ["B30f", "1"]
    private(dataset, 0x0019, "SIEMENS MR HEADER", x0c=("IS", 700), x0e=("FD", [0.0, 0.6, 0.8]))
    private(dataset, 0x0021, "GEMS_RELA_01", x4f=("SS", 5))
    private(dataset, 0x2001, "Philips Imaging DD 001", x18=("SL", 44), x03=("FL", 900.0))
    item = Dataset()
    item.RealWorldValueSlope, item.RealWorldValueIntercept = 2.0, 1.0
    dataset.RealWorldValueMappingSequence = Sequence([item])
    return dataset


@pytest.mark.parametrize("undefined", [False, True])
@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda s: s.keyword)
def test_a_scan_finds_what_full_reading_finds(tmp_path: Path, syntax: str, undefined: bool) -> None:
    enhanced = build.enhanced(build.pixels((3, 8, 6)), slope=[1, 2, 3], StackID="A")
    for number, dataset in enumerate((rich(), rich("CT", SliceThickness="2.5 "), enhanced)):
        for found in dataset.iterall():
            if undefined and found.VR == "SQ":
                found.is_undefined_length = True
                for item in found.value:
                    item.is_undefined_length_sequence_item = True
        quick, full = both(build.save(dataset, tmp_path / str(number), syntax))
        assert quick == full
        assert quick.planes
        assert not quick.problems
    quick, _ = both(tmp_path / "0")
    assert quick.tags["SeriesDescription"] == "Schädel Größe"
    assert quick.tags["StudyDescription"] == "頭部"
    assert quick.planes[0].keys["b"] == 700
    assert quick.planes[0].keys["direction"] == "0\\0.6\\0.8"
    assert quick.declared["GEMS_RELA_01 (0021,xx4F)"] == 5
    assert quick.declared["Philips Imaging DD 001 (2001,xx18)"] == 44
    assert [note.kind for note in quick.notes] == ["real-world-values"]


def reason(path: Path, *, quick: bool) -> Problem | None:
    """Why a file cannot be read."""
    try:
        if quick:
            with scanned(path):
                return None
        read_header(path)
    except DicomError as error:
        return error.problem
    return None


def test_a_scan_finds_it_in_files_of_other_people() -> None:
    compared = 0
    folder = Path(str(get_testdata_file("CT_small.dcm", download=False))).parent
    for path in sorted(folder.glob("*.dcm")):
        refused = reason(path, quick=False)
        assert reason(path, quick=True) == refused
        if refused:
            continue
        header = read_header(path)
        with scanned(path) as elements, quiet():
            assert read_instance(path, elements) == read_instance(path, header), path
            quick, full = Attributes(elements), Attributes(header)
            assert {t: quick.texts(t) for t in TAGS} == {t: full.texts(t) for t in TAGS}, path
        compared += 1
    assert compared > 50


def test_character_sets_are_those_of_the_file_and_of_the_item(tmp_path: Path) -> None:
    for number, (name, text) in enumerate(
        (("ISO_IR 100", "Größe"), ("ISO_IR 126", "Κεφάλι"), ("ISO 2022 IR 149", "머리"))
    ):
        sets = ["", name] if name.startswith("ISO 2022") else name
        dataset = build.classic(build.pixels((1, 8, 6)), SpecificCharacterSet=sets)[0]
        dataset.SeriesDescription = text
        inner = Dataset()
        inner.SpecificCharacterSet, inner.CodeMeaning = "ISO_IR 192", "頭部"
        dataset.ProcedureCodeSequence = Sequence([inner])
        with scanned(build.save(dataset, tmp_path / str(number))) as found, quiet():
            assert found.texts(tag_of("SeriesDescription")) == (text,)
            (item,) = found.items(tag_of("ProcedureCodeSequence"))
            assert item.texts(tag_of("CodeMeaning")) == ("頭部",)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"ISO_IR 192", b"NO_SUCH_99"),
        (b"\x28\x00\x53\x10DS\x02\x001 ", b"\x28\x00\x53\x10FD\x02\x001 "),
        (b"\x20\x00\x13\x00IS\x02\x001 ", b"\x20\x00\x13\x00IS\x02\x00x "),
        (b"\x28\x00\x53\x10DS\x02\x001 ", b"\x28\x00\x53\x10DS\x02\x00x "),
        (b"\x10\x00\x20\x00LO", b"\x10\x00\x20\x00XQ"),
        (b"DA\x08\x0020200102", b"DA\x08\x0099999999"),
    ],
)
def test_odd_values_neither_warn_nor_stop_a_scan(tmp_path: Path, old: bytes, new: bytes) -> None:
    path = build.save(build.classic(build.pixels((1, 8, 6)))[0], tmp_path / "a")
    data = path.read_bytes()
    assert old in data
    path.write_bytes(data.replace(old, new))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        quick, full = both(path)
    assert quick == full
    assert bool(quick.problems) == (b"\x53\x10" in old)  # a slope that is none is never taken for 1


def test_numbers_that_are_none_are_told_of_rather_than_missed(tmp_path: Path) -> None:
    dataset = build.classic(build.pixels((1, 8, 6)))[0]
    path = build.save(dataset, tmp_path / "a")
    data = path.read_bytes()
    written = "\\".join(map(str, dataset.ImagePositionPatient)).encode()
    assert written in data
    path.write_bytes(data.replace(written, b"x" + written[1:]))
    (problem,) = read_files([path]).series[0].problems
    assert (problem.kind, "ImagePositionPatient" in problem.message) == ("bad-value", True)


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda s: s.keyword)
def test_a_file_cut_anywhere_has_a_reason(tmp_path: Path, syntax: str) -> None:
    data = build.save(rich(), tmp_path / "a", syntax).read_bytes()
    path = tmp_path / "cut"
    for size in (*range(1, len(data) - 7, 17), len(data) - 7):
        path.write_bytes(data[:size])
        problem = reason(path, quick=True)
        assert problem is not None
        assert problem == reason(path, quick=False)


def test_lengths_items_and_depth_are_guarded(tmp_path: Path) -> None:
    opening = element(0x0040A730, b"SQ", ITEM + b"\xff" * 4, UNDEFINED)
    deep = opening * 5000 + (ITEM_END + SEQUENCE_END) * 5000
    many = (
        element(0x0040A730, b"SQ", (ITEM + bytes(4)) * (layout.MAX_ITEMS + 1), UNDEFINED)
        + SEQUENCE_END
    )
    long = element(0x7FDF1001, b"OB", b"x", 0xFFFFFFF0)
    for extra, kind in ((deep, "damaged"), (many, "too-large"), (long, "truncated")):
        problem = reason(with_element(tmp_path, extra), quick=True)
        assert problem is not None
        assert problem.kind == kind


def test_what_nobody_asks_for_is_not_looked_into_and_what_is_asked_for_is_guarded(
    tmp_path: Path,
) -> None:
    many = (ITEM + bytes(4)) * (layout.MAX_ITEMS + 1)
    path = with_element(tmp_path, element(0x0040A730, b"SQ", many))
    assert not read_files([path]).unreadable
    for tag in (0x52009230, 0x00409096):  # functional groups, real-world values
        path = with_element(tmp_path, element(tag, b"SQ", many))
        found = read_files([path]).unreadable
        assert [problem.kind for problem in found.values()] == ["too-large"]
    value = b""
    for _ in range(500):
        inner = element(0x0040A730, b"SQ", value)
        value = ITEM + struct.pack("<L", len(inner)) + inner
    path = with_element(tmp_path, element(0x52009229, b"SQ", value))
    assert [p.kind for p in read_files([path]).unreadable.values()] == ["damaged"]


def test_a_malformed_sequence_has_no_items(tmp_path: Path) -> None:
    for value in (b"\xfe\xff\x01\xe0" + bytes(4), ITEM + struct.pack("<L", 9999), b"\1" * 20):
        path = with_element(tmp_path, element(0x00409096, b"SQ", value))
        with scanned(path) as found:
            assert tuple(found.items(0x00409096)) == ()
            assert tuple(found.items(tag_of("Rows"))) == ()
            assert found.value(tag_of("Rows")) == 8


def test_groups_of_frames_are_the_same_from_bytes_and_from_pydicom(tmp_path: Path) -> None:
    path = build.save(build.enhanced(build.pixels((2, 8, 6)), slope=[1, 2]), tmp_path / "a")
    tag = tag_of("PerFrameFunctionalGroupsSequence")
    with scanned(path) as found:
        quick = [group_values(item) for item in found.items(tag)]
        full = [group_values(item) for item in read_header(path)[tag].value]
        for ours, theirs in zip(quick, full, strict=True):
            assert {t: ours[t].texts(t) for t in ours} == {t: theirs[t].texts(t) for t in theirs}


def test_a_scan_takes_less_than_twice_the_time_of_pydicom(tmp_path: Path) -> None:
    datasets = [rich("CT", InstanceNumber=k, SOPInstanceUID=build.uid(k)) for k in range(60)]
    for dataset in datasets:
        for number in range(100):
            private(dataset, 0x0029, "MADE UP", **{f"x{number:02x}": ("DS", str(number))})
    paths = build.write(tmp_path, datasets)
    scan(tmp_path)

    def plainly() -> None:
        for path in paths:
            header = pydicom.dcmread(path, stop_before_pixels=True)
            for tag in TAGS:
                header.get(tag)

    ratios = []
    for _ in range(5):  # other work on the machine disturbs single runs
        times = []
        for work in (plainly, lambda: scan(tmp_path)):
            start = time.process_time()
            work()
            times.append(time.process_time() - start)
        ratios.append(times[1] / times[0])
    assert np.median(ratios) < 2, ratios
