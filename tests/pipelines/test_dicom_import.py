"""Importing DICOM folders: cases, label maps, refusals, resuming, and nothing that names anyone."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import Dataset, dcmread

from medseg_nca.config.data import SplitSettings
from medseg_nca.datasets.find import open_dataset
from medseg_nca.datasets.splits import make_split
from medseg_nca.errors import ConfigError, OutputError
from medseg_nca.io.dicom.deid.pseudonyms import Pseudonyms
from medseg_nca.io.dicom.quiet import quiet
from medseg_nca.io.read import read_image, read_label, read_volume
from medseg_nca.pipelines import dicom_case
from medseg_nca.pipelines.dicom_import import ImportRequest, ImportSettings, run
from medseg_nca.pipelines.dicom_names import Names
from medseg_nca.pipelines.dicom_report import ImportReport
from medseg_nca.work import finished
from tests.io.dicom import build, referring
from tests.io.dicom.leaks import original_uids, tree_leaks

KEY = Pseudonyms(b"a key for tests, not a secret")
HIDE = ImportSettings(deidentify=True, key=KEY)
SPLEEN = ("SCT", "78961009", "Spleen")


def ct(**tags: Any) -> list[Dataset]:
    return build.classic(build.pixels(), build.OBLIQUE, **tags)


def box(low: int, high: int) -> NDArray[np.bool_]:
    """``(planes, rows, columns, 1)``, true in a cuboid."""
    mask = np.zeros((5, 8, 6, 1), bool)
    mask[1:4, low:high, 1:4] = True
    return mask


def expected(mask: NDArray[Any]) -> NDArray[Any]:
    """A mask of :func:`box` in the axis order of an imported volume."""
    return np.asarray(mask[..., 0][:, ::-1].transpose(2, 1, 0))


def clinic(root: Path) -> Path:
    """Two patients: a CT with a SEG, an MR with an RTSTRUCT, one with a gap, one without labels."""
    first = ct()
    build.write(root / "a" / "ct", first)
    build.write(root / "a" / "seg", [referring.seg(first, box(2, 5), names=["Zorrofake liver"])])
    mr = build.classic(build.pixels(), modality="MR", series="m", SeriesNumber=2)
    build.write(root / "a" / "mr", mr)
    drawn = {
        name: [(plane, referring.square(build.AXIAL, plane, 1.0, 4.0))]
        for name, plane in (("Spleen", 2), ("by Fakedoctorzq", 1))
    }
    structures = referring.rtstruct(mr, drawn)
    build.write(root / "a" / "rt", [structures])
    gap = ct(series="gap", SeriesNumber=3)
    build.write(root / "Zorrofake^Quixotina" / "FAKEID-0815-XQ", [*gap[:2], *gap[3:]])
    other = ct(series="b", study="b", PatientID="FAKESECOND-1", PatientName="Fakesecondzq^Per")
    build.write(root / "b", other)
    (root / "notes.txt").write_text("no DICOM")
    return root


def by_id(report: ImportReport) -> dict[str, Any]:
    return {one.id: (record, one) for record, one in report.maps}


def test_a_clinic_becomes_a_data_set(tmp_path: Path) -> None:
    report = run(ImportRequest(clinic(tmp_path / "in"), tmp_path / "out"))
    assert [one.id for _, one in report.maps] == [
        "FAKEID-0815-XQ_1", "FAKEID-0815-XQ_2", "FAKESECOND-1_1",
    ]  # fmt: skip
    assert [(r.kind, r.what, r.modality, r.files) for r in report.refused] == [
        ("missing-slices", "series", "CT", 4)
    ]
    assert report.left_out == {"file-not-dicom": 1}
    dataset = open_dataset(tmp_path / "out")
    assert dataset.format == "msd"
    assert [case.patient for case in dataset.cases] == ["FAKEID-0815-XQ"] * 2 + ["FAKESECOND-1"]
    assert [case.label is not None for case in dataset.cases] == [True, True, False]
    assert dataset.labels is not None
    assert dataset.labels.names == ("Zorrofake liver", "Spleen", "by Fakedoctorzq")
    code = dataset.labels.labels[0].code
    assert code is not None
    assert (code.scheme, code.value, code.meaning) == referring.LIVER
    assert dataset.labels.labels[1].code is None


def test_volumes_and_label_maps_lie_where_they_did(tmp_path: Path) -> None:
    run(ImportRequest(clinic(tmp_path / "in"), tmp_path / "out"))
    image = read_volume(tmp_path / "out" / "imagesTr" / "FAKEID-0815-XQ_1.nii.gz")
    np.testing.assert_array_equal(image.array[0], expected(build.pixels()[..., None]))
    to_ras = np.diag([-1.0, -1.0, 1.0, 1.0])
    first_pixel = image.affine @ [0, image.shape[1] - 1, 0, 1]
    np.testing.assert_allclose(first_pixel, to_ras @ build.OBLIQUE @ [0, 0, 0, 1], atol=1e-4)
    label = read_label(tmp_path / "out" / "labelsTr" / "FAKEID-0815-XQ_1.nii.gz")
    np.testing.assert_array_equal(label.array[0] == 1, expected(box(2, 5)))
    np.testing.assert_allclose(label.affine, image.affine)


def test_a_patient_stays_on_one_side_of_a_split(tmp_path: Path) -> None:
    source = tmp_path / "in"
    for number in range(4):
        for series in "xy":
            planes = ct(series=series, study=str(number), PatientID=f"P{number}", SeriesNumber=1)
            build.write(source / f"{number}{series}", planes)
            build.write(
                source / f"s{number}{series}",
                [referring.seg(planes, box(1, 4), series=f"{series}s")],
            )
    run(ImportRequest(source, tmp_path / "out", HIDE))
    dataset = open_dataset(tmp_path / "out")
    assert len(dataset.labelled) == 8
    split = make_split(dataset, SplitSettings(val=0.25, test=0.25))
    sides = [
        {case.patient for case in dataset.cases if case.id in split.side(s)}
        for s in ("train", "val", "test")
    ]
    assert [len(side) for side in sides] == [2, 1, 1]
    assert len(set.union(*sides)) == 4


def test_nothing_names_the_patient(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = clinic(tmp_path / "in")
    us = build.classic(build.pixels(), modality="MR", series="us", Modality="US")
    build.write(source / "Zorrofake us", us)
    absent = referring.seg(ct(series="gone"), box(2, 5), series="lost")
    build.write(source / "a" / "lost", [absent])
    secrets = {*build.SECRETS, "FAKESECOND-1", "Fakesecondzq", "Synthetic"} | original_uids(
        dcmread(path) for path in source.rglob("*.dcm")
    )
    with caplog.at_level(logging.DEBUG):
        report = run(ImportRequest(source, tmp_path / "out", HIDE))
    assert tree_leaks(tmp_path / "out", secrets) == {}
    shown = json.dumps(report.to_dict()).replace(str(tmp_path / "out"), "") + caplog.text
    (tmp_path / "shown").mkdir()
    (tmp_path / "shown" / "text").write_text(shown)
    assert tree_leaks(tmp_path / "shown", secrets) == {}
    assert {r.kind for r in report.refused} == {
        "missing-slices", "source-absent", "burned-in-annotation",
    }  # fmt: skip
    assert report.labels is not None
    assert set(report.labels.names) == {"Liver", "Spleen", "region 2"}
    dataset = open_dataset(tmp_path / "out")
    assert len({case.patient for case in dataset.cases}) == 2


def test_labels_that_lose_a_name_do_not_become_one(tmp_path: Path) -> None:
    planes = ct()
    masks = np.concatenate([box(low, low + 1) for low in range(2, 6)], axis=-1)
    sides = ["Zorrofake left kidney", "Zorrofake right kidney", "Zorrofake x", "Zorrofake y"]
    seg = referring.seg(planes, masks, names=sides, codes=[("SCT", "64033007", "Kidney")] * 4)
    modifier = region("24028007")
    modifier.CodeMeaning = "Right, Zorrofake"
    seg.SegmentSequence[1].SegmentedPropertyTypeModifierCodeSequence = [modifier]
    seg.SegmentSequence[1].AnatomicRegionSequence = [region("818981001")]
    seg.SegmentSequence[1].AnatomicRegionSequence[0].CodeMeaning = "of Zorrofake"
    build.write(tmp_path / "in" / "ct", planes)
    build.write(tmp_path / "in" / "seg", [seg])
    report = run(ImportRequest(tmp_path / "in", tmp_path / "out", HIDE))
    assert report.labels is not None
    assert report.labels.names == ("Kidney left", "Kidney right", "Kidney 3", "Kidney 4")
    assert tree_leaks(tmp_path / "out", ("Zorrofake",)) == {}


def test_messages_name_no_file_when_names_are_hidden() -> None:
    root = Path("/data/in")
    names = Names(KEY, hidden=True)
    text = f"{root}/Zorrofake Q/x.dcm and {root}/y z.dcm differ: 2 of 1.2.3.4.5.6.7"
    shown = names.message(text, root, (root / "other.dcm",))
    assert shown == f"a file: 2 of {KEY.uid('1.2.3.4.5.6.7')}"
    assert names.message(
        "1 of 5 planes, see 0815.dcm", root, (root / "a" / "0815.dcm", root / "1")
    ) == ("1 of 5 planes, see a file")
    assert Names(KEY).message(text, root) == text


def test_names_of_hostile_files_fit_a_file_system(tmp_path: Path) -> None:
    for number in range(2):
        patient = "../" * 30 + "x" * 300 + str(number)
        planes = ct(study=str(number), SeriesNumber=None)
        for plane in planes:
            plane.add_new("PatientID", "LO", "ok")
            plane["PatientID"]._value = patient
        with quiet():
            build.write(tmp_path / "in" / str(number), planes)
    report = run(ImportRequest(tmp_path / "in", tmp_path / "out"))
    assert len({record.patient for record in report.records}) == 2
    assert all(len(one.id) < 120 for _, one in report.maps)
    assert len(list((tmp_path / "out" / "imagesTr").iterdir())) == 2


def test_a_killed_run_loses_nothing(tmp_path: Path) -> None:
    source, out = clinic(tmp_path / "in"), tmp_path / "out"
    program = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from medseg_nca.work import finished\n"
        "from medseg_nca.pipelines.dicom_import import ImportRequest, ImportSettings, run\n"
        "write = finished.write_json\n"
        "def die(path, tree):\n"
        "    write(path, tree)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "finished.write_json = die\n"
        "settings = ImportSettings(deidentify=True)\n"
        "run(ImportRequest(Path(sys.argv[1]), Path(sys.argv[2]), settings))\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(source), str(out)], check=False)
    assert done.returncode == -signal.SIGKILL
    report = run(ImportRequest(source, out, ImportSettings(deidentify=True)))
    assert (report.cached, len(report.records)) == (1, 3)
    assert not (out / ".medseg-nca" / "key").exists()


def test_names_depend_on_the_key_alone(tmp_path: Path) -> None:
    source = clinic(tmp_path / "in")
    names = [
        [one.id for _, one in run(ImportRequest(source, tmp_path / str(n), settings)).maps]
        for n, settings in enumerate((HIDE, HIDE, ImportSettings(deidentify=True)))
    ]
    assert names[0] == names[1]
    assert not set(names[0]) & set(names[2])


def test_a_random_key_is_forgotten_or_kept(tmp_path: Path) -> None:
    source = clinic(tmp_path / "in")
    run(ImportRequest(source, tmp_path / "out", ImportSettings(deidentify=True)))
    with pytest.raises(ConfigError, match="was not kept"):
        run(ImportRequest(source, tmp_path / "out", ImportSettings(deidentify=True)))
    keep = ImportSettings(deidentify=True, keep_key=True)
    first = run(ImportRequest(source, tmp_path / "kept", keep))
    assert (tmp_path / "kept" / "deidentify.key").stat().st_mode & 0o777 == 0o600
    again = run(ImportRequest(source, tmp_path / "kept", keep))
    assert again.cached == len(first.records) == 3
    with pytest.raises(ConfigError, match="another key"):
        run(ImportRequest(source, tmp_path / "kept", HIDE))


def test_provenance_names_hashed_uids_only(tmp_path: Path) -> None:
    source = clinic(tmp_path / "in")
    uids = original_uids(dcmread(path) for path in source.rglob("*.dcm"))
    run(
        ImportRequest(
            source,
            tmp_path / "out",
            ImportSettings(select="Modality=CT,SeriesDescription~Synthetic"),
        )
    )
    text = (tmp_path / "out" / "provenance.json").read_text()
    tree = json.loads(text)
    assert not [uid for uid in uids if uid in text]
    case = tree["cases"][0]
    assert case["tags"]["SeriesDescription"] == "Synthetic a"
    assert case["transfer_syntax"] == "Explicit VR Little Endian"
    assert case["shape"] == [6, 8, 5]
    assert case["files"] == 5
    np.testing.assert_allclose(
        np.linalg.norm(np.array(case["affine"])[:3, :3], axis=0), case["spacing"], atol=1e-5
    )
    salt = Pseudonyms(tree["uids"]["salt"].encode())
    assert salt.uid(str(build.uid("a", "a"))) == case["series"]
    run(ImportRequest(source, tmp_path / "hidden", HIDE))
    assert json.loads((tmp_path / "hidden" / "provenance.json").read_text())["uids"]["salt"] is None


def test_annotations_in_several_files_are_united_or_stay_apart(tmp_path: Path) -> None:
    planes = ct()
    build.write(tmp_path / "in" / "ct", planes)
    first = referring.seg(planes, box(0, 2), series="s1", ContentDate="20200101")
    apart = referring.seg(
        planes, box(4, 6), series="s2", ContentDate="20200102", names=["Spleen"], codes=[SPLEEN]
    )
    again = referring.seg(planes, box(1, 3), series="s3", ContentDate="20200103")
    for number, annotation in enumerate((again, apart, first)):
        build.write(tmp_path / "in" / f"seg{number}", [annotation])
    report = run(ImportRequest(tmp_path / "in", tmp_path / "out"))
    assert list(by_id(report)) == ["FAKEID-0815-XQ_1", "FAKEID-0815-XQ_1_annotation-2"]
    united = read_label(tmp_path / "out" / "labelsTr" / "FAKEID-0815-XQ_1.nii.gz").array[0]
    np.testing.assert_array_equal(united == 1, expected(box(0, 2)))
    np.testing.assert_array_equal(united == 2, expected(box(4, 6)))
    second = read_label(tmp_path / "out" / "labelsTr" / "FAKEID-0815-XQ_1_annotation-2.nii.gz")
    np.testing.assert_array_equal(second.array[0] == 1, expected(box(1, 3)))
    dataset = open_dataset(tmp_path / "out")
    assert len({case.patient for case in dataset.cases}) == 1


def two_patients(root: Path, *segs: dict[str, Any]) -> None:
    """A CT of each patient with a SEG of one segment."""
    for number, how in enumerate(segs):
        planes = ct(study=str(number), PatientID=f"P{number}")
        region = how.pop("region", None)
        annotation = referring.seg(planes, box(1, 3 + number), **how)
        if region is not None:
            annotation.SegmentSequence[0].AnatomicRegionSequence = [region]
        build.write(root / str(number) / "ct", planes)
        build.write(root / str(number) / "seg", [annotation])


def region(value: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "SCT", "organ"
    return item


def labels_of(report: ImportReport) -> list[tuple[str, list[int]]]:
    """The names of the labels, and the numbers that each case holds."""
    assert report.labels is not None
    maps = [read_label(report.out / "labelsTr" / Path(one.image).name) for _, one in report.maps]
    held = [sorted(set(np.unique(found.array).tolist()) - {0}) for found in maps]
    return list(zip(report.labels.names, held, strict=True))


def test_the_sides_of_an_organ_are_two_labels(tmp_path: Path) -> None:
    kidney = [("SCT", "64033007", "Kidney")]
    left, right = {"names": ["rein gauche"]}, {"names": ["rein droit"]}
    two_patients(tmp_path / "in", left | {"codes": kidney}, right | {"codes": kidney})
    report = run(ImportRequest(tmp_path / "in", tmp_path / "out"))
    assert labels_of(report) == [("rein gauche", [1]), ("rein droit", [2])]
    tree = json.loads((tmp_path / "out" / "report.json").read_text())
    assert [note["kind"] for note in tree["label_notes"]] == ["codes-of-several"]


def test_masses_of_two_organs_are_two_labels(tmp_path: Path) -> None:
    mass = {"names": ["mass"], "codes": [("SCT", "4147007", "Mass")]}
    liver, kidney = region("10200004"), region("64033007")
    two_patients(tmp_path / "in", mass | {"region": liver}, mass | {"region": kidney})
    report = run(ImportRequest(tmp_path / "in", tmp_path / "out"))
    assert labels_of(report) == [
        ("mass (4147007, 10200004)", [1]),
        ("mass (4147007, 64033007)", [2]),
    ]


def test_what_is_lost_of_outlines_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Each kind once, by import and by reading the folder as it lies."""
    image = build.classic(build.pixels())
    across = np.array([(1.0, 2.0, 1.0), (4.0, 2.0, 1.0), (4.0, 2.0, 3.0), (1.0, 2.0, 3.0)])
    sagittal = across @ build.AXIAL[:3, :3].T + build.AXIAL[:3, 3]
    outlines = [(plane, referring.square(build.AXIAL, plane, 1.0, 4.0)) for plane in (1, 3, 40)]
    outlines = [(min(plane, 4), points) for plane, points in [*outlines, (2, sagittal)]]
    broken = referring.rtstruct(image, {"a": outlines, "b": outlines})
    for roi in broken.ROIContourSequence:
        roi.ContourSequence.append(Dataset())
        roi.ContourSequence[-1].ContourGeometricType = "CLOSED_PLANAR"
    build.write(tmp_path / "in", [*image, broken])
    report = run(ImportRequest(tmp_path / "in", tmp_path / "out"))
    assert len(report.records) == 1
    told = caplog.text.splitlines()
    for text in ("not lie in a slice", "outside the image", "slices between", "unreadable"):
        (line,) = (one for one in told if text in one)
        assert "and 1 more, see provenance.json" in line
    caplog.clear()
    (case,) = open_dataset(tmp_path / "in").cases
    assert case.label is not None
    read_label(case.label, read_image(case.images), case.segments)
    assert caplog.text.count("outside the image") == 2


def test_an_organ_of_two_names_is_one_label_and_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    two_patients(tmp_path / "in", {"names": ["Leber"]}, {"names": ["foie"]})
    report = run(ImportRequest(tmp_path / "in", tmp_path / "out"))
    assert report.labels is not None
    assert report.labels.names == ("foie",)
    assert "several names: 'foie' (1 case), 'leber' (1 case)" in caplog.text
    tree = json.loads((tmp_path / "out" / "report.json").read_text())
    assert [note["kind"] for note in tree["label_notes"]] == ["names-differ"]


def test_preprocessing_the_folder_as_it_lies_gives_the_same_numbers(tmp_path: Path) -> None:
    kidney = [("SCT", "64033007", "Kidney")]
    left, right = {"names": ["Niere li."]}, {"names": ["Niere re."]}
    two_patients(tmp_path / "in", left | {"codes": kidney}, right | {"codes": kidney})
    report = run(ImportRequest(tmp_path / "in", tmp_path / "out"))
    dataset = open_dataset(tmp_path / "in")
    assert dataset.labels == report.labels
    for case in dataset.cases:
        assert case.label is not None
        lying = read_label(case.label, read_image(case.images), case.segments)
        written = read_label(tmp_path / "out" / "labelsTr" / f"{case.id}.nii.gz")
        assert np.unique(lying.array).tolist() == np.unique(written.array).tolist()
        assert len(np.unique(lying.array)) == 2


@pytest.mark.parametrize(("rule", "winner"), [("last", 2), ("smallest", 1), ("refuse", None)])
def test_overlapping_segments_of_one_object(rule: Any, winner: int | None, tmp_path: Path) -> None:
    planes = ct()
    masks = np.concatenate([box(1, 3), box(2, 6)], axis=-1)
    seg = referring.seg(planes, masks, names=["Liver", "Spleen"], codes=[referring.LIVER, SPLEEN])
    build.write(tmp_path / "in" / "ct", planes)
    build.write(tmp_path / "in" / "seg", [seg])
    report = run(ImportRequest(tmp_path / "in", tmp_path / "out", ImportSettings(overlap=rule)))
    if winner is None:
        assert [r.kind for r in report.refused] == ["segments-overlap"]
        assert not (tmp_path / "out" / "labelsTr").exists()
        return
    label = read_label(tmp_path / "out" / "labelsTr" / "FAKEID-0815-XQ_1.nii.gz").array[0]
    both = expected(box(1, 3)) & expected(box(2, 6))
    assert set(label[both]) == {winner}
    assert report.maps[0][1].overlaps[0].voxels == both.sum()


@pytest.mark.parametrize(
    ("labels", "found"),
    [("auto", {1: "Liver"}), ("seg", {1: "Liver"}), ("rtstruct", {1: "Drawn"}), ("none", {})],
)
def test_the_source_of_labels(labels: Any, found: dict[int, str], tmp_path: Path) -> None:
    planes = build.classic(build.pixels())
    corners = referring.square(build.AXIAL, 2, 1.0, 4.0)
    build.write(tmp_path / "in" / "ct", planes)
    build.write(tmp_path / "in" / "seg", [referring.seg(planes, box(1, 4))])
    build.write(tmp_path / "in" / "rt", [referring.rtstruct(planes, {"Drawn": [(2, corners)]})])
    report = run(ImportRequest(tmp_path / "in", tmp_path / "out", ImportSettings(labels=labels)))
    table = report.labels.labels if report.labels else ()
    assert {label.values[0]: label.name for label in table} == found
    assert report.refused == ()


def test_an_annotation_of_another_frame_of_reference(tmp_path: Path) -> None:
    planes = ct()
    seg = referring.seg(planes, box(1, 4), FrameOfReferenceUID=build.uid("elsewhere"))
    build.write(tmp_path / "in" / "ct", planes)
    build.write(tmp_path / "in" / "seg", [seg])
    report = run(ImportRequest(tmp_path / "in", tmp_path / "out"))
    assert [(r.what, r.kind) for r in report.refused] == [
        ("annotation", "other-frame-of-reference")
    ]
    assert len(report.records) == 1
    assert open_dataset(tmp_path / "out").labelled == ()


def test_selection_and_what_an_earlier_one_left(tmp_path: Path) -> None:
    source = clinic(tmp_path / "in")
    run(ImportRequest(source, tmp_path / "out"))
    report = run(ImportRequest(source, tmp_path / "out", ImportSettings(select="Modality=MR")))
    assert [one.id for _, one in report.maps] == ["FAKEID-0815-XQ_2"]
    assert report.refused == ()
    assert report.left_out == {"file-not-dicom": 1, "not-selected": 3}
    images = [path.name for path in (tmp_path / "out" / "imagesTr").iterdir()]
    labels = [path.name for path in (tmp_path / "out" / "labelsTr").iterdir()]
    assert images == labels == ["FAKEID-0815-XQ_2.nii.gz"]
    # The labels are numbered anew: the liver is gone.
    assert set(np.unique(read_label(tmp_path / "out" / "labelsTr" / labels[0]).array)) == {0, 1, 2}
    with pytest.raises(ConfigError, match="did you mean"):
        run(ImportRequest(source, tmp_path / "out", ImportSettings(select="Modallity=MR")))


def test_a_second_run_makes_only_what_is_missing(tmp_path: Path) -> None:
    source, out = clinic(tmp_path / "in"), tmp_path / "out"
    first = run(ImportRequest(source, out))
    label = out / "labelsTr" / "FAKEID-0815-XQ_1.nii.gz"
    before = label.stat().st_mtime_ns
    (out / "imagesTr" / "FAKEID-0815-XQ_2.nii.gz").unlink()
    second = run(ImportRequest(source, out))
    assert second.cached == 2
    assert second.maps == first.maps
    assert label.stat().st_mtime_ns == before
    build.write(source / "new", ct(series="n", study="n", PatientID="A-NEW-ONE"))
    third = run(ImportRequest(source, out))
    assert third.cached == 3
    assert len(third.records) == 4


def test_content_decides_what_is_made_again(tmp_path: Path) -> None:
    source, out = clinic(tmp_path / "in"), tmp_path / "out"
    first = run(ImportRequest(source, out))
    files = sorted(path for path in source.rglob("*") if path.is_file())
    for path in files:  # a copy of the folder on another day
        os.utime(path, ns=(1, 1))
    assert run(ImportRequest(source, out)).cached == len(first.records) == 3
    changed = next((source / "a" / "mr").iterdir())
    before = changed.stat()
    content = bytearray(changed.read_bytes())
    content[-1] ^= 1  # the last voxel
    changed.write_bytes(content)
    os.utime(changed, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert changed.stat().st_size == before.st_size
    # Another process: this one has seen a file of that place, size and time.
    program = (
        "import sys; from pathlib import Path\n"
        "from medseg_nca.pipelines.dicom_import import ImportRequest, run\n"
        "print(run(ImportRequest(*map(Path, sys.argv[1:]))).cached)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, source, out], capture_output=True, text=True, check=True
    )
    assert done.stdout == "2\n"


def test_records_of_an_earlier_version_are_made_again(tmp_path: Path) -> None:
    source, out = clinic(tmp_path / "in"), tmp_path / "out"
    first = run(ImportRequest(source, out))
    for path in (out / ".medseg-nca" / "cases").glob("*.json"):
        tree = json.loads(path.read_text())
        path.write_text(json.dumps({**tree, "key": "0" * 32}))
    again = run(ImportRequest(source, out))
    assert again.cached == 0
    assert again.maps == first.maps


def test_a_record_does_not_outlive_the_volume_that_it_describes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The files change, the disk is full once the new image is written, and they change back."""
    source, out = tmp_path / "in", tmp_path / "out"
    build.write(source, ct())
    file = next(source.iterdir())
    run(ImportRequest(source, out))
    image = next((out / "imagesTr").iterdir())
    content, voxels = file.read_bytes(), read_volume(image).array
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))

    def full(path: Path, tree: Any) -> None:
        raise OutputError(f"{path}: cannot be written (No space left on device).")

    with monkeypatch.context() as patch:
        patch.setattr(finished, "write_json", full)
        with pytest.raises(OutputError, match="No space"):
            run(ImportRequest(source, out))
    assert not np.array_equal(read_volume(image).array, voxels)
    file.write_bytes(content)
    assert run(ImportRequest(source, out)).cached == 0
    np.testing.assert_array_equal(read_volume(image).array, voxels)


def test_a_full_disk_stops_it_and_the_same_command_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, out = clinic(tmp_path / "in"), tmp_path / "out"
    written: list[Path] = []

    def filling(write: Callable[[Any, Path], None]) -> Callable[[Any, Path], None]:
        def fill(volume: Any, path: Path) -> None:
            if len(written) == 2:
                raise OutputError(f"{path}: cannot be written (No space left on device).")
            written.append(path)
            write(volume, path)

        return fill

    with monkeypatch.context() as patch:
        for name in ("write_volume", "write_slices"):
            patch.setattr(dicom_case, name, filling(getattr(dicom_case, name)))
        with pytest.raises(OutputError, match="No space"):
            run(ImportRequest(source, out, ImportSettings(deidentify=True)))
    assert not (out / "dataset.json").exists()
    report = run(ImportRequest(source, out, ImportSettings(deidentify=True)))
    assert report.cached == 1
    assert len(report.records) == 3
    assert len(open_dataset(out).cases) == 3
    assert not list(out.rglob("*.part*"))


def test_folders_that_are_in_use_are_refused(tmp_path: Path) -> None:
    source = clinic(tmp_path / "in")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").touch()
    with pytest.raises(OutputError, match="is not empty"):
        run(ImportRequest(source, tmp_path / "full"))
    with pytest.raises(OutputError, match="cannot be the new data set"):
        run(ImportRequest(source, source))
    run(ImportRequest(source, tmp_path / "out"))
    with pytest.raises(OutputError, match="not de-identified"):
        run(ImportRequest(source, tmp_path / "out", HIDE))
    with pytest.raises(OutputError, match="another folder"):
        run(ImportRequest(source / "b", tmp_path / "out"))


def test_pictures_are_left_out_among_volumes_and_imported_alone(tmp_path: Path) -> None:
    tags = {"ImagePositionPatient": None, "ImageOrientationPatient": None, "SeriesNumber": 7}
    values = build.pixels((1, 8, 6, 3), dtype="uint8")
    colour = build.classic(values, modality="OT", series="p", **tags)
    for dataset in colour:
        del dataset.RescaleSlope, dataset.RescaleIntercept
    build.write(tmp_path / "in" / "picture", colour)
    alone = run(ImportRequest(tmp_path / "in", tmp_path / "alone"))
    assert open_dataset(tmp_path / "alone").dims == 2
    assert open_dataset(tmp_path / "alone").channels == ("red", "green", "blue")
    image = read_volume(tmp_path / "alone" / alone.maps[0][1].image)
    assert image.array.shape == (3, 6, 8)
    np.testing.assert_array_equal(image.array, values[0].transpose(2, 1, 0))
    build.write(tmp_path / "in" / "ct", ct())
    both = run(ImportRequest(tmp_path / "in", tmp_path / "both"))
    assert both.left_out == {"picture-among-volumes": 1}
    assert len(both.records) == 1


def test_localizers_are_left_out_and_no_failure(tmp_path: Path) -> None:
    build.write(tmp_path / "in" / "ct", ct())
    overview = build.classic(
        build.pixels((3, 8, 6)),
        build.AXIAL,
        series="l",
        ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"],
    )
    build.write(tmp_path / "in" / "overview", overview)
    report = run(ImportRequest(tmp_path / "in", tmp_path / "out", ImportSettings()))
    assert (len(report.maps), report.refused, report.left_out["localizer"]) == (1, (), 1)


def test_stacks_of_one_series_become_cases(tmp_path: Path) -> None:
    planes = [
        plane
        for echo in (1, 2)
        for plane in build.classic(build.pixels(seed=echo), modality="MR", EchoNumbers=str(echo))
    ]
    for number, plane in enumerate(planes):
        plane.SOPInstanceUID = build.uid("echoes", number)
    build.write(tmp_path / "in", planes)
    for settings in (ImportSettings(), HIDE):
        report = run(
            ImportRequest(tmp_path / "in", tmp_path / f"out{settings.deidentify}", settings)
        )
        assert sorted(one.id.rsplit("_")[-1] for _, one in report.maps) == ["echo-1", "echo-2"]
        assert sorted(record.stack for record in report.records) == ["echo-1", "echo-2"]
        assert len({record.patient for record in report.records}) == 1


def test_a_folder_that_has_become_empty_removes_nothing(tmp_path: Path) -> None:
    build.write(tmp_path / "in", ct())
    run(ImportRequest(tmp_path / "in", tmp_path / "out", HIDE))
    (tmp_path / "in").rename(tmp_path / "away")
    (tmp_path / "in").mkdir()
    assert run(ImportRequest(tmp_path / "in", tmp_path / "out", HIDE)).records == ()
    (tmp_path / "in").rmdir()
    (tmp_path / "away").rename(tmp_path / "in")
    assert run(ImportRequest(tmp_path / "in", tmp_path / "out", HIDE)).cached == 1


def test_a_volume_that_cannot_be_read_stops_no_other(tmp_path: Path) -> None:
    build.write(tmp_path / "in" / "good", ct())
    bad = ct(series="bad", SeriesNumber=2)
    bad[1].PhotometricInterpretation = "ARGB"
    paths = build.write(tmp_path / "in" / "bad", bad)
    report = run(ImportRequest(tmp_path / "in", tmp_path / "out"))
    assert [record.id for record in report.records] == ["FAKEID-0815-XQ_1"]
    assert [(r.kind, r.what, r.files) for r in report.refused] == [
        ("unsupported-pixels", "volume", 5)
    ]
    assert str(paths[1]) in report.refused[0].message


def test_one_slice_with_writing_refuses_its_series(tmp_path: Path) -> None:
    planes = ct(BurnedInAnnotation="NO")
    planes[3].BurnedInAnnotation = "YES"
    build.write(tmp_path / "in", planes)
    report = run(ImportRequest(tmp_path / "in", tmp_path / "out", HIDE))
    assert [r.kind for r in report.refused] == ["burned-in-annotation"]
    assert not list((tmp_path / "out").rglob("*.nii.gz"))
    allowed = ImportSettings(deidentify=True, key=KEY, allow_burned_in=True)
    assert len(run(ImportRequest(tmp_path / "in", tmp_path / "allowed", allowed)).records) == 1


def test_a_name_in_the_place_of_the_modality_is_hidden(tmp_path: Path) -> None:
    build.write(tmp_path / "in" / "a", ct(Modality="ZORROFAKE"))
    gap = ct(series="gap", Modality="ZORROFAKE")
    build.write(tmp_path / "in" / "b", [*gap[:2], *gap[3:]])
    report = run(ImportRequest(tmp_path / "in", tmp_path / "out", HIDE))
    assert [record.modality for record in report.records] == [""]
    assert [refusal.modality for refusal in report.refused] == [""]
    assert not tree_leaks(tmp_path / "out", ("zorrofake",))


def test_names_of_files_may_be_no_text(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    # What pytest captures it sends to its parent as UTF-8, which cannot hold such names.
    caplog.set_level(logging.CRITICAL + 1, logger="medseg_nca")
    build.write(tmp_path / "in", ct())
    try:
        Path(os.fsdecode(os.fsencode(tmp_path / "in") + b"/\xff\xfe.dcm")).write_text("junk")
    except OSError as error:
        pytest.skip(f"the file system refuses such names: {error}")
    run(ImportRequest(tmp_path / "in", tmp_path / "out"))
    tree = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    assert tree["refused"][0]["message"].endswith("/\udcff\udcfe.dcm: is not a DICOM file.")


def test_nothing_to_import(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "text").write_text("nothing")
    report = run(ImportRequest(tmp_path / "in", tmp_path / "out"))
    assert report.records == ()
    assert not (tmp_path / "out" / "dataset.json").exists()
    assert (tmp_path / "out" / "report.json").is_file()


@pytest.mark.slow
def test_two_workers_make_the_same(tmp_path: Path) -> None:
    source = clinic(tmp_path / "in")
    here, there = (run(ImportRequest(source, tmp_path / str(n), HIDE, workers=n)) for n in (0, 2))
    assert here.maps == there.maps
    for _, one in here.maps:
        first, second = (read_volume(tmp_path / n / one.image) for n in ("0", "2"))
        np.testing.assert_array_equal(first.array, second.array)


@pytest.fixture(scope="module")
def shared(
    shared_data: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, ImportReport]:
    source = shared_data("dicom")
    return source, run(ImportRequest(source, tmp_path_factory.mktemp("shared") / "out"))


def test_the_liver_of_the_shared_ct(shared: tuple[Path, ImportReport]) -> None:
    source, report = shared
    wanted = read_label(source / "ct_with_seg" / "liver_seg.nrrd")
    label = read_label(report.out / "labelsTr" / "99000_2.nii.gz")
    np.testing.assert_array_equal(_in_world(label), _in_world(wanted))
    assert label.array.max() == 1
    assert report.labels is not None
    assert report.labels.labels[0].name == "Liver"


def test_the_bad_series_of_the_shared_data(shared: tuple[Path, ImportReport]) -> None:
    kinds = [r.kind for r in shared[1].refused if r.what == "series"]
    assert sorted(kinds) == ["missing-slices", "mixed-orientations", "single-position"]
    assert len(shared[1].records) == 8


@pytest.mark.peer
def test_affines_are_those_of_dcm2niix(shared: tuple[Path, ImportReport], tmp_path: Path) -> None:
    dcm2niix = pytest.importorskip("dcm2niix", reason="pip install dcm2niix")
    source, report = shared
    folders = {"99000_2": "ct_with_seg/ct", "dicom2nifti_201": "non_isotropic",
               "dicom2nifti_401": "philips_mr", "dicom2nifti_5": "siemens_enhanced"}  # fmt: skip
    for case, folder in folders.items():
        out = tmp_path / case
        out.mkdir()
        command = [dcm2niix.bin, "-z", "n", "-b", "n", "-o", str(out), str(source / folder)]
        subprocess.run(command, capture_output=True, check=False)
        theirs: Any = nib.load(next(out.glob("*.nii")))
        ours: Any = nib.load(report.out / "imagesTr" / f"{case}.nii.gz")
        np.testing.assert_allclose(ours.affine, theirs.affine, atol=1e-3)
        assert ours.shape == theirs.shape[:3]
        np.testing.assert_allclose(np.asarray(ours.dataobj), np.asarray(theirs.dataobj), rtol=1e-5)


def _in_world(volume: Any) -> NDArray[Any]:
    """Foreground voxels in RAS mm, sorted, rounded to a hundredth of a millimetre."""
    voxels = np.argwhere(volume.array[0])
    points = nib.affines.apply_affine(volume.affine, voxels).round(1)
    return np.unique(points + 0.0, axis=0)
