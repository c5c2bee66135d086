"""Predicting DICOM series: the labels of any other format, written in what clinics read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import highdicom as hd
import nibabel as nib
import numpy as np
import pytest
from click.testing import CliRunner, Result
from pydicom import dcmread

from medseg_nca.cli.main import cli
from medseg_nca.io.dicom.annotations.seg import read_seg
from medseg_nca.io.dicom.objects.export import write_series
from medseg_nca.io.read import read_label, read_volume
from medseg_nca.io.volume import Volume
from tests.io.dicom import build
from tests.tracking.tiny import save_tiny

MODEL = "zoo:hippocampus"


def predict(out: Path, *args: object, model: object = MODEL) -> Result:
    return CliRunner().invoke(
        cli, ["predict", "--model", str(model), "--out", str(out), *map(str, args)]
    )


def series(folder: Path, number: int = 1, **tags: object) -> Path:
    """A small oblique MR series."""
    made = build.classic(
        build.pixels((12, 16, 14)), build.OBLIQUE, modality="MR", series=f"s{number}",
        SeriesNumber=number, **tags,
    )  # fmt: skip
    build.write(folder, made)
    return folder


def one(out: Path, ending: str) -> Path:
    (found,) = out.glob(f"*{ending}")
    return found


@pytest.fixture
def hippocampus(tmp_path: Path, shared_data: Callable[[str], Path]) -> tuple[Path, Path]:
    """A case as a NIfTI file, and the same turned to an oblique grid as a DICOM series."""
    file = shared_data("Task04_Hippocampus") / "imagesTr" / "hippocampus_001.nii.gz"
    volume = read_volume(file)
    turn = build.affine((1, 1, 1), (5, 6, 7), (8, -5, 3))
    turned = Volume(volume.array, turn @ volume.affine)
    write_series(turned, tmp_path / "series", seed="test")
    nifti = nib.Nifti1Image(volume.array[0], turned.affine)
    nib.save(nifti, tmp_path / "turned.nii.gz")
    return tmp_path / "turned.nii.gz", tmp_path / "series"


def test_a_series_gives_the_labels_of_its_nifti_file(
    hippocampus: tuple[Path, Path], tmp_path: Path
) -> None:
    file, folder = hippocampus
    assert predict(tmp_path / "a", file).exit_code == 0
    result = predict(tmp_path / "b", folder)
    assert result.exit_code == 0, result.output
    image = read_volume(folder)
    expected = nib.as_closest_canonical(nib.load(one(tmp_path / "a", ".nii.gz"))).get_fdata()
    assert set(np.unique(expected)) == {0, 1, 2}
    segments = read_seg(one(tmp_path / "b", ".seg.dcm"), image)
    assert [segment.name for segment in segments] == ["Anterior", "Posterior"]
    for segment in segments:
        mask = segment.mask.astype(np.uint8)
        back = nib.as_closest_canonical(nib.Nifti1Image(mask, image.affine)).get_fdata()
        assert (back == (expected == segment.number)).all()


def test_every_format_at_once(hippocampus: tuple[Path, Path], tmp_path: Path) -> None:
    _, folder = hippocampus
    out = tmp_path / "out"
    formats = ["dicom-seg", "rtstruct", "sr", "sc", "nifti", "nrrd"]
    result = predict(out, folder, "--format", ",".join(formats), "--json")
    assert result.exit_code == 0, result.output
    (entry,) = json.loads(result.stdout)
    assert list(entry["outputs"]) == formats
    source = dcmread(folder / "0001.dcm")
    made = {name: dcmread(entry["outputs"][name]) for name in formats[:4]}
    assert [made[name].Modality for name in formats[:4]] == ["SEG", "RTSTRUCT", "SR", "OT"]
    for dataset in made.values():
        assert dataset.StudyInstanceUID == source.StudyInstanceUID
        assert dataset.PatientID == source.PatientID
        assert dataset.SeriesInstanceUID != source.SeriesInstanceUID
    seg = hd.seg.segread(entry["outputs"]["dicom-seg"])
    assert seg.FrameOfReferenceUID == source.FrameOfReferenceUID
    algorithm = seg.get_segment_description(1).algorithm_identification
    assert algorithm.name == "hippocampus"
    assert made["dicom-seg"].SOPInstanceUID in str(made["sr"])
    nifti, nrrd = (read_label(Path(entry["outputs"][name])) for name in ("nifti", "nrrd"))
    assert (nifti.array == nrrd.array).all()
    # Millilitres of the report are those of the voxels.
    voxel = abs(np.linalg.det(nifti.affine[:3, :3])) / 1000
    volumes = _numbers(made["sr"])
    for label in (1, 2):
        expected = float((nifti.array == label).sum() * voxel)
        assert any(value == pytest.approx(expected, rel=1e-3) for value in volumes)


def _numbers(dataset: object) -> list[float]:
    """All numeric values of a report, at any depth."""
    found: list[float] = []
    for item in getattr(dataset, "ContentSequence", []):
        for value in getattr(item, "MeasuredValueSequence", []):
            found.append(float(value.NumericValue))
        found += _numbers(item)
    return found


def test_a_finished_series_is_not_predicted_again(tmp_path: Path) -> None:
    folder, out = series(tmp_path / "in"), tmp_path / "out"
    assert predict(out, folder).exit_code == 0
    first = one(out, ".seg.dcm").read_bytes()
    assert predict(out, folder).exit_code == 0
    assert one(out, ".seg.dcm").read_bytes() == first  # a new one has new UIDs
    assert predict(out, folder, "--format", "dicom-seg,nifti").exit_code == 0
    assert one(out, ".seg.dcm").read_bytes() != first
    assert one(out, ".nii.gz").is_file()


def test_results_lie_in_the_tree_of_the_series_and_are_no_inputs(tmp_path: Path) -> None:
    folder = series(tmp_path / "in")
    for _ in range(2):  # the second finds all done
        result = predict(folder, "--format", "nifti,dicom-seg", folder)
        assert result.exit_code == 0, result.output
        assert len(list(folder.glob("*.nii.gz"))) == 1
        assert len(json.loads((folder / "predictions.json").read_text())["predictions"]) == 1


def test_a_bad_series_does_not_cost_the_others(tmp_path: Path) -> None:
    series(tmp_path / "in" / "good", 1)
    series(tmp_path / "in" / "gap", 2)
    (tmp_path / "in" / "gap" / "0005.dcm").unlink()
    out = tmp_path / "out"
    result = predict(out, tmp_path / "in", "--json")
    assert result.exit_code == 3
    good, bad = json.loads((out / "predictions.json").read_text())["predictions"]
    assert Path(good["outputs"]["dicom-seg"]).is_file()
    assert "missing" in bad["error"]
    assert "Zorrofake" not in bad["error"]
    chosen = predict(tmp_path / "chosen", tmp_path / "in", "--select", "SeriesNumber=1")
    assert chosen.exit_code == 0, chosen.output
    nothing = predict(tmp_path / "chosen", tmp_path / "in", "--select", "Modality=CT")
    assert nothing.exit_code == 2
    assert "none that fits the selection" in nothing.stderr


@pytest.mark.parametrize("kept", [0, 0.8])
def test_a_series_that_lost_its_last_slice_is_told(kept: float, tmp_path: Path) -> None:
    folder = series(tmp_path / "in")
    last = sorted(folder.iterdir())[-1]
    content = last.read_bytes()
    last.write_bytes(content[: int(kept * len(content))])
    out = tmp_path / "out"
    result = predict(out, tmp_path / "in")
    assert result.exit_code == 3
    assert str(last) in result.stderr
    # It makes no shorter volume; of an empty file nobody knows that it was a slice.
    assert len(list(out.glob("*.seg.dcm"))) == (kept == 0)


def test_a_part_of_a_series_that_is_no_volume_is_told(tmp_path: Path) -> None:
    made = []
    for echo in (1, 2):
        planes = build.classic(
            build.pixels((8, 16, 14), seed=echo), build.OBLIQUE, modality="MR",
            SeriesNumber=1, EchoNumbers=echo, EchoTime=10 * echo,
        )  # fmt: skip
        for index, plane in enumerate(planes):
            plane.SOPInstanceUID = build.uid(echo, index)
        made += planes
    del made[12]
    build.write(tmp_path / "in", made)
    out = tmp_path / "out"
    result = predict(out, tmp_path / "in", "--format", "nifti")
    assert result.exit_code == 3
    assert "1 of 8 slices are missing" in result.stderr
    assert [file.name for file in out.glob("*.nii.gz")] == ["FAKEID-0815-XQ_1_echo-1.nii.gz"]
    chosen = predict(tmp_path / "b", tmp_path / "in", "--select", "Stack=echo-1")
    assert chosen.exit_code == 0, chosen.output


def test_a_folder_of_volumes_may_hold_results_too(
    hippocampus: tuple[Path, Path], tmp_path: Path
) -> None:
    file, folder = hippocampus
    assert predict(tmp_path / "a", folder).exit_code == 0
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    file.rename(mixed / file.name)
    one(tmp_path / "a", ".seg.dcm").rename(mixed / "x.dcm")
    assert predict(tmp_path / "b", mixed).exit_code == 0
    assert one(tmp_path / "b", ".nii.gz").name == file.name
    alone = predict(tmp_path / "c", mixed / "x.dcm")
    assert alone.exit_code == 2
    assert "none that is an image" in alone.stderr


def stray_nrrd(folder: Path) -> Path:
    import SimpleITK

    file = folder / "note.nrrd"
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(np.ones((9, 9, 9), "int16")), str(file))
    return file


def stray_thumbnail(folder: Path) -> Path:
    from PIL import Image

    file = folder / "thumbnail.jpg"
    Image.new("L", (32, 32), 7).save(file)
    return file


def stray_text(folder: Path) -> Path:
    file = folder / "report.nii.gz"
    file.write_text("no image at all")
    return file


def stray_dicom(folder: Path) -> Path:
    (file,) = build.write(folder, build.classic(build.pixels((1, 16, 14)), series="x"), name="x")
    file.write_bytes(file.read_bytes()[:900])
    return file


def stray_series(folder: Path) -> Path:
    made = build.classic(build.pixels((6, 16, 14)), series="gap", SeriesNumber=7)
    return build.write(folder / "gap", [*made[:2], *made[3:]])[0]


@pytest.mark.parametrize(
    "stray", [stray_nrrd, stray_thumbnail, stray_text, stray_dicom, stray_series]
)
@pytest.mark.parametrize("formats", ["dicom-seg", "rtstruct,nifti"])
def test_a_stray_file_costs_its_own_result_only(
    formats: str, stray: Callable[[Path], Path], tmp_path: Path
) -> None:
    series(tmp_path / "in" / "series")
    file = stray(tmp_path / "in")
    out = tmp_path / "out"
    result = predict(out, tmp_path / "in", "--format", formats)
    assert result.exit_code == 3, result.output
    good, bad = json.loads((out / "predictions.json").read_text())["predictions"]
    if "error" in good:
        good, bad = bad, good
    assert all(Path(name).is_file() for name in good["outputs"].values())
    assert set(good["outputs"]) == set(formats.split(","))
    assert str(file.parent if stray is stray_series else file) in bad["error"]
    assert str(file.parent if stray is stray_series else file) in result.stderr


@pytest.mark.parametrize("named", ["text", "seg"])
def test_what_is_named_beside_a_series_and_is_no_image(named: str, tmp_path: Path) -> None:
    folder = series(tmp_path / "series")
    other = tmp_path / "other"
    if named == "text":
        other.write_text("no image")
    else:
        assert predict(tmp_path / "first", folder).exit_code == 0
        file = tmp_path / "image.nii.gz"
        nib.save(nib.Nifti1Image(np.random.default_rng(0).random((16, 14, 12)), np.eye(4)), file)
        folder = file
        one(tmp_path / "first", ".seg.dcm").rename(other)
    out = tmp_path / "out"
    result = predict(out, folder, other)
    assert result.exit_code == 3, result.output
    assert str(other) in result.stderr
    found = json.loads((out / "predictions.json").read_text())["predictions"]
    (good,) = (entry for entry in found if "error" not in entry)
    assert all(Path(name).is_file() for name in good["outputs"].values())


def test_what_is_no_image_and_not_named_is_passed_over(tmp_path: Path) -> None:
    folder = series(tmp_path / "in")
    (folder / ".hidden.nrrd").write_text("")
    (folder / "._0001.dcm").write_bytes(b"\x00\x05\x16\x07")  # macOS
    (folder / "notes.txt").write_text("no image")
    (folder / "Thumbs.db").write_bytes(bytes(512))
    meta = build.classic(build.pixels((1, 8, 6)))[0]
    meta.SOPClassUID = "1.2.840.10008.1.3.10"
    build.save(meta, folder / "DICOMDIR")
    result = predict(tmp_path / "out", folder, "--format", "dicom-seg")
    assert result.exit_code == 0, result.output


def test_another_modality_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    build.write(tmp_path / "in", build.classic(build.pixels((12, 16, 14)), modality="CT"))
    assert predict(tmp_path / "out", tmp_path / "in").exit_code == 0
    tree = json.loads((tmp_path / "out" / "predictions.json").read_text())
    (told,) = tree["predictions"]
    assert "its modality is CT, that of the training MRI" in told["training"]["unlike"]
    assert "its modality is CT, that of the training MRI" in caplog.text


def test_a_case_that_a_format_cannot_hold_fails_no_other(tmp_path: Path) -> None:
    save_tiny(tmp_path / "model", dims=2)
    for number, spacing in enumerate((None, ["0.5", "0.5"])):
        picture = build.classic(
            build.pixels((1, 20, 16)), modality="OT", series=f"s{number}", SeriesNumber=number,
            PixelSpacing=spacing, ImagePositionPatient=None, ImageOrientationPatient=None,
        )  # fmt: skip
        build.write(tmp_path / "in" / str(number), picture)
    out = tmp_path / "out"
    result = predict(out, tmp_path / "in", "--format", "sr", model=tmp_path / "model")
    assert result.exit_code == 3, result.output
    assert "does not say how large its pixels are" in result.stderr
    assert one(out, ".sr.dcm").name.endswith("_1.sr.dcm")


def test_volumes_of_one_file_are_predicted_one_by_one(tmp_path: Path) -> None:
    frames = np.concatenate([build.pixels((6, 16, 14), seed=n) for n in (0, 1)])
    made = build.enhanced(frames, build.AXIAL)
    for index, group in enumerate(made.PerFrameFunctionalGroupsSequence):
        place = made.PerFrameFunctionalGroupsSequence[index % 6].PlanePositionSequence
        group.PlanePositionSequence = place
        echo = type(made)()
        echo.EffectiveEchoTime = (10.0, 80.0)[index // 6]
        group.MREchoSequence = [echo]
    build.write(tmp_path / "in", [made])
    out = tmp_path / "out"
    result = predict(out, tmp_path / "in", "--format", "nifti")
    assert result.exit_code == 0, result.output
    assert len(list(out.glob("*.nii.gz"))) == 2


def test_files_of_a_series_may_be_named_one_by_one(tmp_path: Path) -> None:
    folder = series(tmp_path / "in")
    result = predict(tmp_path / "out", *sorted(folder.iterdir()))
    assert result.exit_code == 0, result.output
    assert len(list((tmp_path / "out").glob("*.seg.dcm"))) == 1


@pytest.mark.parametrize(
    ("formats", "said"),
    [
        ("dicom-seg", "is no DICOM image"),
        ("dicomseg", "dicom-seg"),
        ("png", "cannot hold the result of a model with 3 axes"),
    ],
)
def test_a_format_that_does_not_fit_is_refused_at_once(
    formats: str, said: str, tmp_path: Path
) -> None:
    file = tmp_path / "image.nii.gz"
    nib.save(nib.Nifti1Image(np.random.default_rng(0).random((9, 9, 9)), np.eye(4)), file)
    result = predict(tmp_path / "out", file, "--format", formats)
    assert result.exit_code == 2
    assert said in result.stderr
    assert not (tmp_path / "out").exists()


def test_what_may_be_missing_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = series(tmp_path / "in", ImagesInAcquisition=20)
    for command in (("predict", "--model", MODEL), ("dicom", "import")):
        caplog.clear()
        out = tmp_path / command[-1].replace(":", "-")
        result = CliRunner().invoke(cli, [*command, "--out", str(out), str(folder)])
        assert result.exit_code == 0, result.output
        assert "declares 20 (ImagesInAcquisition), and there are 12 planes" in caplog.text
    scanned = CliRunner().invoke(cli, ["dicom", "scan", str(folder)])
    assert "note fewer-images: " in scanned.output


def test_series_whose_files_have_the_same_names_are_all_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Both are far too small; each is called as its result, for 0000.dcm is in both folders."""
    for number in (1, 2):
        series(tmp_path / "in" / str(number), number)
    gap = tmp_path / "in" / "gap"
    series(gap, 3)
    (gap / "0005.dcm").unlink()
    result = predict(tmp_path / "out", tmp_path / "in")
    assert result.exit_code == 3
    names = "FAKEID-0815-XQ_1, FAKEID-0815-XQ_2"
    assert f"2 of 2 images ({names}) are unlike the images" in caplog.text
    assert f"No label was found in 2 of 2 images ({names})" in caplog.text
