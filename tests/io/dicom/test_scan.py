"""Series are found in any tree; what is wrong becomes a problem, never an exception."""

from __future__ import annotations

import os
import pickle
import random
import shutil
from pathlib import Path

import pytest
from pydicom.dataelem import DataElement
from pydicom.uid import JPEG2000Lossless, RLELossless

from medseg_nca.errors import ImageError
from medseg_nca.io.dicom.records import Scan, Series
from medseg_nca.io.dicom.scan import read_files, scan
from medseg_nca.job import Job
from tests.io.dicom import build


def only(found: Scan) -> Series:
    assert len(found.series) == 1
    return found.series[0]


def kinds(series: Series) -> list[str]:
    return [problem.kind for problem in series.problems]


def test_series_lie_anywhere_and_need_no_extension(tmp_path: Path) -> None:
    first = build.classic(build.pixels((4, 8, 6)), series="a")
    second = build.classic(build.pixels((3, 8, 6)), series="b", modality="MR", SeriesNumber=2)
    build.write(tmp_path / "x" / "y", first[:2], name="IM{:06d}")
    build.write(tmp_path / "z", [*second, first[2]], name="{}.whatever")
    build.write(tmp_path, first[3:], name="alone")
    found = scan(tmp_path)
    assert [(s.tags["Modality"], len(s.files)) for s in found.series] == [("CT", 4), ("MR", 3)]
    assert all(len(s.stacks) == 1 and not s.problems for s in found.series)
    assert found.series[0].stacks[0].shape == (6, 8, 4)
    assert not found.unreadable
    assert not found.passed_over


def test_patients_share_a_folder(tmp_path: Path) -> None:
    for k in range(3):
        datasets = build.classic(build.pixels((3, 8, 6)), study=f"s{k}")
        for dataset in datasets:
            dataset.PatientID = f"P{2 - k}"
        build.write(tmp_path, datasets, name=f"{k}-{{}}")
    found = scan(tmp_path)
    assert [s.patient_id for s in found.series] == ["P0", "P1", "P2"]
    assert all(s.stacks for s in found.series)


def test_what_is_no_dicom_is_counted(tmp_path: Path) -> None:
    build.write(tmp_path / "a", build.classic(build.pixels((3, 8, 6))))
    (tmp_path / "notes.txt").write_text("x" * 500)
    (tmp_path / "empty").touch()
    (tmp_path / ".DS_Store").write_text("x")
    (tmp_path / ".git").mkdir()
    build.write(tmp_path / ".git", build.classic(build.pixels((1, 8, 6)), series="hidden"))
    os.mkfifo(tmp_path / "pipe")
    found = scan(tmp_path)
    assert found.passed_over == {"not-dicom": 2, "hidden": 2, "special": 1}
    assert only(found).stacks


def test_what_calls_itself_dicom_and_is_not_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.dcm").write_text("not DICOM")
    (tmp_path / "b.DCM").touch()
    found = scan(tmp_path)
    assert {path.name: p.kind for path, p in found.unreadable.items()} == {
        "a.dcm": "not-dicom",
        "b.DCM": "empty",
    }


def test_a_dicomdir_is_passed_over(tmp_path: Path) -> None:
    from pydicom.data import get_testdata_file

    real = get_testdata_file("DICOMDIR", download=False)
    shutil.copy(str(real), tmp_path / "DICOMDIR")
    build.write(tmp_path / "IMAGES", build.classic(build.pixels((3, 8, 6))), name="I{}")
    found = scan(tmp_path)
    assert found.passed_over == {"dicomdir": 1}
    assert only(found).stacks


def test_links_do_not_leave_the_tree(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    build.write(outside, build.classic(build.pixels((3, 8, 6)), series="out"))
    root = tmp_path / "root"
    inside = build.write(root / "a", build.classic(build.pixels((3, 8, 6))))
    store = build.write(root / ".store", build.classic(build.pixels((3, 8, 6)), series="st"))
    (root / "link").symlink_to(outside)
    (root / "file.dcm").symlink_to(outside / "0000.dcm")
    (root / "again.dcm").symlink_to(inside[0])
    (root / "dangling.dcm").symlink_to(root / "gone")
    (root / "loop").symlink_to(root)
    for k, path in enumerate(store):  # as git-annex lays out a data set
        (root / f"annex-{k}").symlink_to(path)
    found = scan(root)
    assert [len(s.files) for s in found.series] == [3, 3]
    assert found.passed_over == {"hidden": 1, "link": 5}


def test_one_file_is_a_tree_too(tmp_path: Path) -> None:
    path = build.save(build.enhanced(build.pixels((4, 8, 6))), tmp_path / "x")
    assert only(scan(path)).stacks[0].shape == (6, 8, 4)
    with pytest.raises(ImageError, match="no such file"):
        scan(tmp_path / "gone")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_closed_folder_is_told(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0)
    assert scan(tmp_path).unreadable[closed].kind == "unreadable"


def test_copies_are_passed_over_with_a_note(tmp_path: Path) -> None:
    datasets = build.classic(build.pixels((3, 40, 36)), modality="MR")
    build.write(tmp_path / "a", datasets)
    build.write(tmp_path / "b", datasets)
    build.write(tmp_path / "c", datasets, RLELossless)
    build.write(tmp_path / "d", datasets, JPEG2000Lossless)
    series = only(scan(tmp_path))
    assert [path.parent.name for path in series.files] == ["a"] * 3
    assert series.stacks[0].shape == (36, 40, 3)
    assert not series.problems
    assert [note.kind for note in series.notes] == ["copies"]
    assert str(tmp_path / "b" / "0000.dcm") in series.notes[0].message


@pytest.mark.parametrize("what", ["pixels", "position"])
def test_one_uid_with_different_content_is_refused(tmp_path: Path, what: str) -> None:
    datasets = build.classic(build.pixels((3, 8, 6)))
    build.write(tmp_path / "a", datasets)
    if what == "pixels":
        build.set_pixels(datasets[1], build.pixels((1, 8, 6), seed=9))
    else:
        datasets[1].ImagePositionPatient = [0, 0, 0]
    build.write(tmp_path / "b", datasets[1:2])
    series = only(scan(tmp_path))
    assert kinds(series) == ["conflicting-instances"]
    assert str(tmp_path / "b" / "0000.dcm") in series.problems[0].message
    assert not series.stacks


def test_a_series_of_two_patients_or_studies_is_refused(tmp_path: Path) -> None:
    datasets = build.classic(build.pixels((4, 8, 6)))
    datasets[3].PatientID = "SECRET-77"
    datasets[3].StudyInstanceUID = build.uid("another")
    build.write(tmp_path, datasets)
    series = only(scan(tmp_path))
    assert kinds(series) == ["mixed-patients", "mixed-studies"]
    assert not series.stacks
    assert "SECRET" not in str(series.problems)


def test_a_damaged_slice_spoils_its_series_and_no_other(tmp_path: Path) -> None:
    first = build.write(tmp_path, build.classic(build.pixels((4, 8, 6)), series="a"))
    build.write(tmp_path, build.classic(build.pixels((3, 8, 6)), series="b"), name="b{}")
    first[-1].write_bytes(first[-1].read_bytes()[:-50])  # the last slice: no gap tells of it
    found = scan(tmp_path)
    damaged = next(s for s in found.series if s.problems)
    assert kinds(damaged) == ["unreadable-files"]
    assert "truncated" in damaged.problems[0].message
    assert not damaged.stacks
    assert list(found.unreadable) == [first[-1]]
    assert sum(bool(series.stacks) for series in found.series) == 1


def test_a_file_without_series_is_told(tmp_path: Path) -> None:
    datasets = build.classic(build.pixels((1, 8, 6)), SeriesInstanceUID=None)
    (path,) = build.write(tmp_path, datasets)
    found = scan(tmp_path)
    assert not found.series
    assert found.unreadable[path].kind == "no-series-uid"


def test_kinds_of_series(tmp_path: Path) -> None:
    from pydicom.data import get_testdata_file

    for name in ("rtstruct.dcm", "rtplan.dcm", "rtdose.dcm", "test-SR.dcm", "CT_small.dcm"):
        shutil.copy(str(get_testdata_file(name, download=False)), tmp_path / name)
    found = scan(tmp_path)
    assert {s.files[0].name: s.kind for s in found.series} == {
        "rtstruct.dcm": "rtstruct",
        "rtplan.dcm": "other",
        "rtdose.dcm": "other",
        "test-SR.dcm": "other",
        "CT_small.dcm": "image",
    }


def test_tags_to_select_by(tmp_path: Path) -> None:
    datasets = build.classic(
        build.pixels((3, 8, 6)), SeriesDescription="Grüße", SliceThickness="3."
    )
    build.write(tmp_path, datasets)
    tags = only(scan(tmp_path)).tags
    assert tags["SeriesDescription"] == "Grüße"
    assert tags["ImageType"] == "ORIGINAL\\PRIMARY\\AXIAL"
    assert tags["SeriesNumber"] == "1"
    assert tags["SliceThickness"] == "3."
    assert "ContrastBolusAgent" not in tags


def test_one_burned_in_annotation_marks_the_series(tmp_path: Path) -> None:
    datasets = build.classic(build.pixels((3, 8, 6)), BurnedInAnnotation="NO")
    build.write(tmp_path, datasets)
    assert only(scan(tmp_path)).tags["BurnedInAnnotation"] == "NO"
    datasets[1].BurnedInAnnotation = "YES"
    build.write(tmp_path, datasets)
    assert only(scan(tmp_path)).tags["BurnedInAnnotation"] == "YES"


@pytest.mark.slow
def test_progress_and_processes_give_the_same(tmp_path: Path) -> None:
    for k in range(25):
        build.write(tmp_path / str(k), build.classic(build.pixels((3, 8, 6)), series=str(k)))
    calls: list[tuple[int, int]] = []
    alone = scan(tmp_path, job=Job(lambda told: calls.append((told.done, told.total))))
    assert calls == [(k, 75) for k in range(1, 76)]
    shared = scan(tmp_path, workers=2)
    assert [s.files for s in shared.series] == [s.files for s in alone.series]
    assert pickle.dumps(shared.series[0].stacks[0].affine) == pickle.dumps(
        alone.series[0].stacks[0].affine
    )


def test_records_cross_processes(tmp_path: Path) -> None:
    build.write(tmp_path, build.classic(build.pixels((3, 8, 6))))
    found = scan(tmp_path)
    copy = pickle.loads(pickle.dumps(found))
    assert copy.series[0].stacks[0].planes == found.series[0].stacks[0].planes


def test_a_number_of_a_series_that_is_none(tmp_path: Path) -> None:
    datasets = build.classic(build.pixels((3, 8, 6)))
    for dataset in datasets:
        dataset.SpecificCharacterSet = "ISO_IR 192"
        dataset[0x00200011] = DataElement(0x00200011, "LO", "\u00b2")
    build.write(tmp_path, datasets)
    found = only(scan(tmp_path))
    assert found.number == 0
    assert len(found.stacks) == 1


def test_files_by_name(tmp_path: Path) -> None:
    paths = build.write(tmp_path, build.classic(build.pixels((4, 8, 6))))
    found = read_files([*paths[:2], paths[1], tmp_path / "gone"])
    assert only(found).stacks[0].shape == (6, 8, 2)
    assert [p.kind for p in found.unreadable.values()] == ["unreadable"]


@pytest.mark.parametrize("seed", range(4))
def test_changed_bytes_stop_no_scan(tmp_path: Path, seed: int) -> None:
    generator = random.Random(seed)
    classic = build.classic(build.pixels((3, 8, 6)), modality="MR")
    paths = [
        *build.write(tmp_path, classic),
        build.save(build.enhanced(build.pixels((3, 8, 6))), tmp_path / "enhanced.dcm"),
    ]
    whole = [path.read_bytes() for path in paths]
    for _ in range(25):
        for path, data in zip(paths, whole, strict=True):
            changed = bytearray(data)
            for _ in range(generator.choice([1, 4, 16])):
                changed[generator.randrange(len(changed))] = generator.choice(b"\x00\xff\\-9A")
            path.write_bytes(changed)
        found = scan(tmp_path)
        known = sum(len(series.files) for series in found.series)
        # Each file is in a series, or told, or a copy, or no DICOM file any more.
        assert known + len(found.unreadable) >= 1
        for series in found.series:
            assert series.stacks or series.problems or series.kind != "image"


@pytest.mark.parametrize(
    ("folder", "kind", "words"),
    [
        ("slice_increment", "missing-slices", "10 mm between (-123.5, -115.2, 28.1075)"),
        ("slice_orientation", "mixed-orientations", "2 oblique sagittal planes at (21.297"),
        ("not_a_volume", "single-position", "(-139.228, -384.228, 61.5)"),
    ],
)
def test_bad_series_of_others(shared_data, folder: str, kind: str, words: str) -> None:  # type: ignore[no-untyped-def]
    series = only(scan(shared_data("dicom") / "bad" / folder))
    assert kinds(series) == [kind]
    assert words in series.problems[0].message
    assert not series.stacks


def test_the_good_series_of_others(shared_data) -> None:  # type: ignore[no-untyped-def]
    found = scan(shared_data("dicom"))
    images = [s for s in found.series if s.kind == "image"]
    assert len(images) == 11
    assert sorted(s.stacks[0].shape for s in images if s.stacks) == [
        (64, 28, 4),
        (240, 240, 4),
        (256, 256, 1),
        *[(256, 256, 4)] * 3,
        (256, 256, 8),
        (512, 512, 3),
    ]
    assert len([s for s in found.series if s.kind == "seg"]) == 3
    assert not found.unreadable
