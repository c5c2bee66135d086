"""Volumes read from DICOM: values at their places, choice among several, refusals."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from medseg_nca.errors import ConfigError, ImageError
from medseg_nca.io.dicom.problems import DicomError
from medseg_nca.io.dicom.read import find_stack, read_dicom, read_stack
from medseg_nca.io.dicom.records import Source
from medseg_nca.io.dicom.scan import scan
from medseg_nca.io.dicom.series.turn import as_dcm2niix
from medseg_nca.io.volume import Volume
from tests.io.dicom import build

SECRET_WORDS = [word for word in (*build.SECRETS, "Synthetic") if len(word) > 3]


def value_at(volume: Volume, lps: NDArray[np.float64]) -> Any:
    ras = lps * [-1, -1, 1]
    index = np.linalg.inv(volume.affine) @ [*ras, 1]
    i, j, k = np.rint(index[:3]).astype(int)
    np.testing.assert_allclose(index[:3], [i, j, k], atol=1e-4)
    return volume.array[0, i, j, k]


def refusal(*paths: Path, **options: Any) -> DicomError:
    with pytest.raises(DicomError) as caught:
        read_dicom(paths, **options)
    assert not any(word in str(caught.value) for word in SECRET_WORDS)
    return caught.value


@pytest.mark.parametrize("affine", [build.AXIAL, build.OBLIQUE], ids=["axial", "oblique"])
@pytest.mark.parametrize("form", ["classic", "enhanced"])
def test_every_voxel_lies_where_dicom_says(
    tmp_path: Path, affine: NDArray[np.float64], form: str
) -> None:
    pixels = build.pixels((4, 5, 3))
    if form == "classic":
        datasets = build.classic(pixels, affine, slope=2, intercept=-7)
        random.Random(2).shuffle(datasets)
        build.write(tmp_path, datasets)
    else:
        dataset = build.enhanced(pixels, affine, slope=2, intercept=-7, order=[2, 0, 3, 1])
        build.save(dataset, tmp_path / "e.dcm")
    volume = read_dicom([tmp_path])
    assert volume.array.shape == (1, 3, 5, 4)
    for plane, row, column in np.ndindex(pixels.shape):
        lps = (affine @ [column, row, plane, 1])[:3]
        assert value_at(volume, lps) == pixels[plane, row, column] * 2 - 7


def test_the_source_is_noted(tmp_path: Path) -> None:
    paths = build.write(tmp_path, build.classic(build.pixels((3, 8, 6)), modality="PT"))
    volume = read_dicom([tmp_path])
    source = volume.header["dicom"]
    assert isinstance(source, Source)
    assert (source.modality, source.resampled) == ("PT", False)
    assert source.series_uid == build.uid("a", "a")
    assert source.frame_of_reference_uid == build.uid("a", "frame of reference")
    assert [plane.path for plane in source.stack.planes] == paths
    assert volume.sources == tuple(paths)
    assert not any(word in repr(volume) for word in SECRET_WORDS)


def test_planes_have_slopes_of_their_own(tmp_path: Path) -> None:
    pixels = build.pixels((3, 8, 6))
    build.write(tmp_path, build.classic(pixels, modality="PT", slope=[1, 2.5, 4]))
    volume = read_dicom([tmp_path])
    expected = (pixels * np.array([1, 2.5, 4])[:, None, None])[:, ::-1].transpose(2, 1, 0)
    np.testing.assert_allclose(volume.array[0], expected, rtol=1e-6)


def test_files_of_one_stack_or_one_file(tmp_path: Path) -> None:
    paths = build.write(tmp_path, build.classic(build.pixels((4, 8, 6))))
    assert read_dicom(paths[1:3]).shape == (6, 8, 2)
    assert read_dicom(paths[:1]).shape == (6, 8, 1)
    assert read_dicom(paths[:1]).spacing == pytest.approx((0.9, 0.9, 2.5))
    assert refusal(paths[0], paths[2], paths[3]).problem.kind == "missing-slices"


def test_a_colour_picture(tmp_path: Path) -> None:
    pixels = build.pixels((1, 8, 6, 3), dtype="uint8")
    unplaced = dict.fromkeys(("ImagePositionPatient", "ImageOrientationPatient"))
    datasets = build.classic(pixels, modality="OT", **unplaced)
    (path,) = build.write(tmp_path, datasets)
    volume = read_dicom([path])
    assert volume.array.shape == (3, 6, 8)
    np.testing.assert_array_equal(volume.array, pixels[0].transpose(2, 1, 0))
    assert volume.spacing == pytest.approx((0.9, 0.9))


def test_several_volumes_are_named_without_the_patient(tmp_path: Path) -> None:
    for k, modality in enumerate(("CT", "MR"), 3):
        datasets = build.classic(
            build.pixels((3, 8, 6)), series=str(k), modality=modality, SeriesNumber=k
        )
        build.write(tmp_path / modality, datasets)
    error = refusal(tmp_path)
    assert error.problem.kind == "several-volumes"
    assert "CT SeriesNumber=3 6 x 8 x 3" in error.problem.message
    assert "select=" in (error.hint or "")
    assert read_dicom([tmp_path], select="Modality=MR").header["dicom"].modality == "MR"
    assert refusal(tmp_path, select="Modality=PT").problem.kind == "no-image"
    with pytest.raises(ConfigError, match="Modality"):
        read_dicom([tmp_path], select="Modlity=MR")


def test_an_echo_is_chosen_by_its_stack(tmp_path: Path) -> None:
    for echo in (1, 2):
        pixels = build.pixels((3, 8, 6), seed=echo)
        datasets = build.classic(pixels, modality="MR", EchoNumbers=echo)
        for k, dataset in enumerate(datasets):
            dataset.SOPInstanceUID = build.uid(echo, k)
        build.write(tmp_path, datasets, name=f"{echo}-{{}}")
    assert "Stack=echo-2" in str(refusal(tmp_path))
    volume = read_dicom([tmp_path], select="Stack=echo-2")
    expected = build.pixels((3, 8, 6), seed=2)[:, ::-1].transpose(2, 1, 0)
    np.testing.assert_array_equal(volume.array[0], expected)


def test_a_refused_series_beside_a_good_one(tmp_path: Path) -> None:
    build.write(tmp_path / "good", build.classic(build.pixels((3, 8, 6)), SeriesNumber=1))
    gap = build.classic(build.pixels((5, 8, 6)), series="gap", SeriesNumber=2)
    del gap[2]
    build.write(tmp_path / "gap", gap)
    error = refusal(tmp_path)
    assert error.problem.kind == "missing-slices"
    assert str(tmp_path / "gap") in str(error)
    assert read_dicom([tmp_path], select="SeriesNumber=1").shape == (6, 8, 3)


def test_a_localizer_beside_a_volume_is_no_obstacle(tmp_path: Path) -> None:
    build.write(tmp_path, build.classic(build.pixels((3, 8, 6)), SeriesNumber=2), name="v{}")
    image_type = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    scout = build.classic(build.pixels((1, 8, 6)), series="scout", ImageType=image_type)
    build.write(tmp_path, scout, name="s{}")
    assert read_dicom([tmp_path]).shape == (6, 8, 3)


def test_a_file_that_may_be_a_slice_is_not_overlooked(tmp_path: Path) -> None:
    build.write(tmp_path, build.classic(build.pixels((3, 8, 6))))
    (tmp_path / "0003.dcm").touch()
    error = refusal(tmp_path)
    assert error.problem.kind == "empty"
    assert "0003.dcm" in str(error)
    (tmp_path / "0003.dcm").rename(tmp_path / "readme.txt")
    assert read_dicom([tmp_path]).shape == (6, 8, 3)


def test_a_slice_that_is_cut_anywhere_is_refused(tmp_path: Path) -> None:
    paths = build.write(tmp_path, build.classic(build.pixels((3, 8, 6))))
    whole = paths[2].read_bytes()
    for size in range(150, len(whole), 31):
        paths[2].write_bytes(whole[:size])
        assert "0002.dcm" in str(refusal(tmp_path))
        assert refusal(paths[2]).problem.kind == "truncated"


def test_what_is_no_image(tmp_path: Path) -> None:
    from pydicom.data import get_testdata_file

    (tmp_path / "a").mkdir()
    assert refusal(tmp_path / "a").problem.kind == "no-image"
    assert refusal(tmp_path / "gone").problem.kind == "unreadable"
    (tmp_path / "x.txt").write_text("x" * 200)
    assert refusal(tmp_path / "x.txt").problem.kind == "not-dicom"
    plan = Path(str(get_testdata_file("rtplan.dcm", download=False)))
    assert "kind other" in str(refusal(plan))
    with pytest.raises(ImageError, match="among other paths"):
        read_dicom([tmp_path, plan])
    with pytest.raises(ImageError, match="at least one"):
        read_dicom([])


def test_nan_is_refused_by_count(tmp_path: Path) -> None:
    datasets = build.classic(build.pixels((2, 8, 6)), modality="PT")
    for dataset in datasets:
        values = np.ones((1, 8, 6), np.float32)
        values[0, 0, :3] = np.nan
        del dataset.PixelData
        dataset.FloatPixelData = values.tobytes()
        dataset.BitsAllocated = 32
        for keyword in ("BitsStored", "HighBit", "PixelRepresentation"):
            del dataset[keyword]
        del dataset.RescaleSlope, dataset.RescaleIntercept
    build.write(tmp_path, datasets)
    with pytest.raises(ImageError, match="6 of 96 values are NaN"):
        read_dicom([tmp_path])


def tilted(degrees: float, *, along_x: bool = False) -> NDArray[np.float64]:
    affine = build.affine((0.8, 1.1, 2.0), degrees=(0, 0, 15))
    direction = affine[:3, 0] / 0.8 if along_x else affine[:3, 1] / 1.1
    affine[:3, 2] += direction * 2.0 * np.tan(np.radians(degrees))
    return affine


@pytest.mark.parametrize("degrees", [20, -12.5, 3])
@pytest.mark.parametrize("along_x", [False, True])
def test_tilt_is_resampled_so_that_places_stay(
    tmp_path: Path, degrees: float, along_x: bool
) -> None:
    affine = tilted(degrees, along_x=along_x)
    index = np.stack(np.meshgrid(*map(np.arange, (6, 9, 7)), indexing="ij"), -1)
    lps = index[..., ::-1] @ affine[:3, :3].T + affine[:3, 3]
    gradient = np.array([3.0, -2.0, 1.0])
    # Linear interpolation keeps what is linear in space.
    pixels = lps @ gradient * 50
    offset = np.floor(pixels.min())
    build.write(
        tmp_path,
        build.classic(np.rint(pixels - offset).astype("uint16"), affine, intercept=float(offset)),
    )
    volume = read_dicom([tmp_path])
    axes = volume.affine[:3, :3] / np.linalg.norm(volume.affine[:3, :3], axis=0)
    np.testing.assert_allclose(axes.T @ axes, np.eye(3), atol=1e-6)
    assert volume.spacing == pytest.approx((0.8, 1.1, 2.0), abs=1e-6)
    assert volume.header["dicom"].resampled
    grid = np.stack(np.meshgrid(*map(np.arange, volume.shape), indexing="ij"), -1)
    world = (grid @ volume.affine[:3, :3].T + volume.affine[:3, 3]) * [-1, -1, 1]
    expected = world @ gradient * 50
    lps_to_index = np.linalg.inv(affine)
    source = (world - affine[:3, 3]) @ lps_to_index[:3, :3].T
    last = np.array([6, 8, 5])
    inside = ((source >= -1e-4) & (source <= last + 1e-4)).all(-1)
    outside = ((source < -0.51) | (source > last + 0.51)).any(-1)
    np.testing.assert_allclose(volume.array[0][inside], expected[inside], atol=2)
    assert (volume.array[0][outside] == volume.array.min()).all()
    # Each plane keeps all of its pixels but perhaps half a row.
    assert (~outside).sum((0, 1)).min() >= 63
    assert outside.any()


def test_tilt_is_refused_by_option(tmp_path: Path) -> None:
    build.write(tmp_path, build.classic(build.pixels((4, 8, 6)), tilted(20)))
    error = refusal(tmp_path, tilt="refuse")
    assert error.problem.kind == "tilted"
    assert "0.7279 mm" in str(error)


def test_too_many_voxels_are_refused_before_they_are_read(tmp_path: Path) -> None:
    from dataclasses import replace

    build.write(tmp_path, build.classic(build.pixels((3, 8, 6))))
    series, stack = find_stack(scan(tmp_path))
    with pytest.raises(DicomError) as caught:
        read_stack(series, replace(stack, shape=(10**5, 10**5, 3)))
    assert caught.value.problem.kind == "too-large"


def test_a_3d_acquisition_is_turned_for_import_only(tmp_path: Path) -> None:
    affine = build.affine(degrees=(80, 10, 0))
    datasets = build.classic(build.pixels((4, 5, 3)), affine, modality="MR", MRAcquisitionType="3D")
    build.write(tmp_path, datasets)
    series, stack = find_stack(scan(tmp_path))
    volume = read_stack(series, stack)
    turned = as_dcm2niix(volume, series, stack)
    assert volume.shape == (3, 5, 4)
    assert turned.shape == (3, 4, 5)
    assert (np.diag(turned.affine) > 0).all()
    for plane, row, column in np.ndindex(4, 5, 3):
        lps = (affine @ [column, row, plane, 1])[:3]
        assert value_at(volume, lps) == value_at(turned, lps)


def test_a_2d_acquisition_is_not_turned(tmp_path: Path) -> None:
    build.write(tmp_path, build.classic(build.pixels((4, 5, 3)), modality="MR"))
    series, stack = find_stack(scan(tmp_path))
    volume = read_stack(series, stack)
    assert as_dcm2niix(volume, series, stack) is volume


def test_messages_of_pydicom_do_not_reach_the_user(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    datasets = build.classic(build.pixels((3, 8, 6)))
    paths = build.write(tmp_path, datasets)
    for path in paths:  # a number that is none, in a tag that nobody needs
        path.write_bytes(path.read_bytes().replace(b"20200102", b"2020XX02"))
    assert read_dicom([tmp_path]).shape == (6, 8, 3)
    captured = capsys.readouterr()
    assert captured.out == captured.err == caplog.text == ""


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.dcm")
    assert refusal(tmp_path / "pipe.dcm").problem.kind == "unreadable"
