"""What the import tells of patients: nothing, or pseudonyms."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataelem import DataElement

from medseg_nca.config.data import SplitSettings
from medseg_nca.datasets.find import open_dataset
from medseg_nca.datasets.splits import make_split
from medseg_nca.errors import ConfigError
from medseg_nca.io.dicom.deid.pseudonyms import Pseudonyms
from medseg_nca.io.dicom.quiet import quiet
from medseg_nca.pipelines.dicom_import import ImportRequest, ImportSettings, run
from medseg_nca.pipelines.dicom_names import Names
from tests.io.dicom import build, referring
from tests.io.dicom.leaks import original_uids, tree_leaks
from tests.pipelines.dicom_import.clinic import HIDE, KEY, box, clinic, ct, region


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
            plane["PatientID"] = DataElement("PatientID", "LO", patient, already_converted=True)
        with quiet():
            build.write(tmp_path / "in" / str(number), planes)
    report = run(ImportRequest(tmp_path / "in", tmp_path / "out"))
    assert len({record.patient for record in report.records}) == 2
    assert all(len(one.id) < 120 for _, one in report.maps)
    assert len(list((tmp_path / "out" / "imagesTr").iterdir())) == 2


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
