"""Series that are no volumes, cannot be read, or are those of the shared data."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray

from medseg_nca.datasets.find import open_dataset
from medseg_nca.io.read import read_label, read_volume
from medseg_nca.pipelines.dicom_import import ImportRequest, ImportSettings, run
from medseg_nca.pipelines.dicom_report import ImportReport
from tests.io.dicom import build
from tests.pipelines.dicom_import.clinic import HIDE, KEY, ct


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


def test_nothing_to_import(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "text").write_text("nothing")
    report = run(ImportRequest(tmp_path / "in", tmp_path / "out"))
    assert report.records == ()
    assert not (tmp_path / "out" / "dataset.json").exists()
    assert (tmp_path / "out" / "report.json").is_file()


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
