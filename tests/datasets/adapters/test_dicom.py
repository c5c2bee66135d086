"""A folder of DICOM files as a data set: listed, checked and prepared as it lies."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medseg_nca.config.loading import load_settings
from medseg_nca.datasets.adapters.dicom import Dicom
from medseg_nca.datasets.find import find_format, open_dataset
from medseg_nca.errors import DataError, ImageError, PartialFailure
from medseg_nca.io.read import read_image, read_label, read_volume
from medseg_nca.pipelines import check, preprocess
from tests.io.dicom import build, referring

SPLEEN = ("SCT", "78961009", "Spleen")
LIVER = referring.LIVER


def box(low: int, high: int) -> np.ndarray[Any, Any]:
    mask = np.zeros((5, 8, 6, 1), bool)
    mask[1:4, low:high, 1:4] = True
    return mask


def write_case(root: Path, patient: str, names: list[str], codes: list[Any], **tags: Any) -> None:
    """A CT of a patient with a SEG of some segments, one row apart."""
    planes = build.classic(build.pixels(), study=patient, PatientID=patient, **tags)
    masks = np.concatenate([box(2 * n, 2 * n + 2) for n in range(len(names))], axis=-1)
    build.write(root / patient / "ct", planes, name="{:04d}")
    segments = referring.seg(planes, masks, names=names, codes=codes)
    build.write(root / patient / "seg", [segments], name="SEG{:d}")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "archive"
    write_case(root, "A", ["Liver", "Spleen"], [LIVER, SPLEEN])
    write_case(root, "B", ["Spleen", "Liver"], [SPLEEN, LIVER])
    write_case(root, "C", ["Liver"], [LIVER])
    (root / "readme.txt").write_text("files under any name")
    return root


def test_it_is_recognised_and_listed(folder: Path) -> None:
    assert find_format(folder) == "dicom"
    dataset = open_dataset(folder)
    assert [case.id for case in dataset.cases] == ["A_1", "B_1", "C_1"]
    assert [case.patient for case in dataset.cases] == ["A", "B", "C"]
    assert dataset.labels is not None
    assert dataset.labels.names == ("Liver", "Spleen")
    assert (dataset.dims, dataset.channels, dataset.modality) == (3, ("CT",), "CT")
    assert len(dataset.cases[0].images) == 5


def test_a_folder_without_dicom_is_not_recognised(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no DICOM")
    assert not Dicom().recognises(tmp_path)
    assert not Dicom().recognises(tmp_path / "absent")
    with pytest.raises(DataError, match="holds no DICOM image"):
        Dicom().open(tmp_path)


def test_a_label_has_the_same_number_in_every_case(folder: Path) -> None:
    dataset = open_dataset(folder)
    wanted = {"A_1": (1, 2), "B_1": (2, 1), "C_1": (1,)}
    for case in dataset.cases:
        image = read_image(case.images)
        assert case.label is not None
        label = read_label(case.label, image, case.segments).array[0]
        for number, value in enumerate(wanted[case.id]):
            mask = box(2 * number, 2 * number + 2)[..., 0][:, ::-1].transpose(2, 1, 0)
            np.testing.assert_array_equal(label == value, mask)


def test_images_are_read_from_files_and_folders_alike(folder: Path) -> None:
    case = open_dataset(folder).cases[0]
    image = read_image(case.images)
    np.testing.assert_array_equal(read_volume(folder / "A" / "ct").array, image.array)
    with pytest.raises(ImageError, match="only with its image"):
        read_label(folder / "A" / "seg" / "SEG0")
    with pytest.raises(ImageError, match="not read from DICOM"):
        read_label(folder / "A" / "seg" / "SEG0", image.__class__(image.array, image.affine))
    with pytest.raises(ImageError, match="no segmentation and no structure set"):
        read_label(case.images[0], image)


def test_a_bad_series_is_named_and_the_others_go_on(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    gap = build.classic(build.pixels(), study="gap", PatientID="D")
    build.write(folder / "D", [*gap[:2], *gap[3:]])
    lost = build.classic(build.pixels(), study="lost", PatientID="E")
    build.write(folder / "E", [referring.seg(lost, box(1, 3))])
    with caplog.at_level(logging.WARNING):
        report = check.run(folder)
    assert "not in this folder" in caplog.text
    assert [(finding.code, finding.case) for finding in report.errors] == [
        ("image_unusable", "D_1")
    ]
    assert "slices are missing" in report.errors[0].message
    assert len(report.rows) == 4
    with pytest.raises(PartialFailure, match="1 of 4 cases failed") as caught:
        preprocess.run(
            preprocess.PreprocessRequest(folder, tmp_path / "out", load_settings(None), workers=0)
        )
    assert "slices are missing" in caught.value.failures["D_1"]


def test_a_damaged_last_slice_does_not_make_a_shorter_volume(folder: Path) -> None:
    last = sorted((folder / "A" / "ct").iterdir())[-1]
    last.write_bytes(last.read_bytes()[:-20])
    case = open_dataset(folder).cases[0]
    assert case.id == "A_1"
    with pytest.raises(ImageError, match="is truncated"):
        read_image(case.images)


def test_it_can_be_prepared(folder: Path, tmp_path: Path) -> None:
    store = preprocess.run(
        preprocess.PreprocessRequest(folder, tmp_path / "out", load_settings(None), workers=0)
    )
    assert [case.id for case in store.cases] == ["A_1", "B_1", "C_1"]
    assert store.labels.names == ("Liver", "Spleen")
    assert [sorted(k for k, n in case.foreground.items() if n) for case in store.cases] == [
        ["Liver", "Spleen"], ["Liver", "Spleen"], ["Liver"],
    ]  # fmt: skip
    legends = [case.segments for case in store.cases]
    assert [legend and legend.table for legend in legends] == [store.labels] * 3


def test_the_first_of_several_annotations_counts(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    planes = build.classic(build.pixels(), study="C", PatientID="C")
    newer = referring.seg(planes, box(4, 6), series="newer", ContentDate="20990101")
    build.write(folder / "C" / "again", [newer])
    with caplog.at_level(logging.WARNING):
        case = open_dataset(folder).cases[2]
    assert case.label == folder / "C" / "seg" / "SEG0"
    assert "first of 2 annotations" in caplog.text


def test_pictures_alone_are_a_2d_data_set(tmp_path: Path) -> None:
    tags = {"ImagePositionPatient": None, "ImageOrientationPatient": None}
    values = build.pixels((1, 8, 6, 3), dtype="uint8")
    for number in range(2):
        picture = build.classic(
            values, modality="OT", series=str(number), SeriesNumber=number, **tags
        )
        del picture[0].RescaleSlope, picture[0].RescaleIntercept
        build.write(tmp_path / "in" / str(number), picture)
    dataset = open_dataset(tmp_path / "in")
    assert (dataset.dims, dataset.channels) == (2, ("red", "green", "blue"))
    assert len(dataset.cases) == 2
