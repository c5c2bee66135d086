"""DICOM SEG onto the grid of an image: every type, and every placement."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless

from medseg_nca.config import Code
from medseg_nca.errors import ConfigError, ImageError
from medseg_nca.io.dicom.annotations.labels import compose
from medseg_nca.io.dicom.annotations.legend import make_legend
from medseg_nca.io.dicom.annotations.references import referenced_instances, referenced_series
from medseg_nca.io.dicom.annotations.seg import read_seg
from medseg_nca.io.volume import Volume
from tests.io.dicom.build import AXIAL, OBLIQUE, affine, classic, pixels
from tests.io.dicom.on_image import image_of, on_array
from tests.io.dicom.segs import SHAPE, blobs, kinds, refused, save, seg, series_and_image


@pytest.fixture(scope="module")
def ct(shared_data: Callable[[str], Path]) -> tuple[Path, Volume]:
    """The folder, and the CT as an image whose array order no reader has."""
    folder = shared_data("dicom") / "ct_with_seg"
    series = [pydicom.dcmread(path) for path in sorted((folder / "ct").iterdir())]
    series.sort(key=lambda instance: instance.ImagePositionPatient[2])
    lps = np.diag([*map(float, series[0].PixelSpacing), 1.0, 1.0])
    lps[:3, 3] = series[0].ImagePositionPatient
    return folder, image_of(series, lps)


def nrrd_on(path: Path, image: Volume) -> NDArray[Any]:
    """A label map of others on the grid of an image, each voxel looked up where it lies."""
    from medseg_nca.io.read import read_label

    label = read_label(path)
    voxels = np.indices(image.shape).reshape(3, -1)
    to_label = np.linalg.inv(label.affine) @ image.affine
    index = to_label[:3, :3] @ voxels + to_label[:3, 3:]
    assert np.abs(index - np.rint(index)).max() < 1e-3
    values = label.array[0][tuple(np.rint(index).astype(int))]
    assert (label.array != 0).sum() == (values != 0).sum()
    return values.reshape(image.shape)


def test_the_liver_is_the_liver_of_others(ct: tuple[Path, Volume]) -> None:
    folder, image = ct
    result = read_seg(folder / "liver.dcm", image)
    (liver,) = result.segments
    assert (liver.mask == (nrrd_on(folder / "liver_seg.nrrd", image) == 1)).all()
    assert liver.voxels == 107098
    assert liver.code == Code(scheme="SCT", value="10200004", meaning="Liver")  # was SRT T-62000
    assert (liver.number, liver.name, liver.algorithm) == (1, "Liver", "SEMIAUTOMATIC")
    assert result.notes == ()


def test_overlapping_segments_are_those_of_others(ct: tuple[Path, Volume]) -> None:
    folder, image = ct
    result = read_seg(folder / "partial_overlaps.dcm", image)
    maps = [nrrd_on(folder / f"partial_overlaps-{n}.nrrd", image) for n in (1, 2, 3)]
    assert [s.number for s in result] == [1, 2, 3, 4, 5]
    for segment in result:
        assert (segment.mask == np.any([m == segment.number for m in maps], axis=0)).all()
    legend = make_legend([[segment.concept for segment in result]])
    composed = compose(result, legend, image)
    expected = np.max(maps, axis=0)  # the rule: the higher number covers
    assert (composed.label_map.array[0] == expected).all()
    lost = sum(s.voxels for s in result) - np.count_nonzero(expected)
    assert composed.overlapping_voxels == lost == 3134


@pytest.mark.parametrize("name", ["sparse-labelmap-noppv.dcm", "sparse-labelmap-ppv5.dcm"])
def test_a_sparse_label_map_fills_its_own_slices_only(
    shared_data: Callable[[str], Path], name: str, tmp_path: Path
) -> None:
    path = shared_data("dicom") / "ct_with_seg" / name
    dataset = pydicom.dcmread(path)
    lps = affine((0.7, 0.7, 2.5), (46.464901, 5.0188098, -180.25))
    series = classic(pixels((6, 38, 24)), lps, FrameOfReferenceUID=dataset.FrameOfReferenceUID)
    image = image_of(series, lps)
    (liver,) = read_seg(path, image)  # the background segment is none
    expected = np.zeros((6, 38, 24), bool)
    expected[[1, 3]] = dataset.pixel_array == 1
    assert liver.voxels == 630
    assert (liver.mask == on_array(expected)).all()


@pytest.mark.parametrize("lps", [AXIAL, OBLIQUE], ids=["axial", "oblique"])
@pytest.mark.parametrize("omit", [True, False], ids=["omitted", "all-frames"])
def test_binary_segments_come_back_exactly(
    lps: NDArray[np.float64], omit: bool, tmp_path: Path
) -> None:
    series, image = series_and_image(affine_lps=lps)
    masks = blobs()
    path = save(seg(series[::-1], masks[::-1], omit_empty_frames=omit), tmp_path)
    result = read_seg(path, image)
    assert result.notes == ()
    for number, segment in enumerate(result):
        assert (segment.mask == on_array(masks[..., number] > 0)).all()
    assert [s.code.value for s in result if s.code] == ["10200004", "78961009", "1"]


@pytest.mark.parametrize("fractional_type", ["PROBABILITY", "OCCUPANCY"])
def test_fractions_are_cut_at_a_part_of_their_maximum(fractional_type: str, tmp_path: Path) -> None:
    series, image = series_and_image()
    values = np.random.default_rng(0).integers(0, 201, (*SHAPE, 2))
    more = {"fractional_type": fractional_type, "max_fractional_value": 200}
    path = save(seg(series, values / 200, "FRACTIONAL", **more), tmp_path)
    for threshold in (0.5, 0.25, 1.0):
        for number, segment in enumerate(read_seg(path, image, threshold=threshold)):
            expected = values[..., number] >= threshold * 200
            assert (segment.mask == on_array(expected)).all()


@pytest.mark.parametrize("threshold", [0.0, -1.0, 1.1, float("nan")])
def test_a_threshold_is_a_part(threshold: float, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="threshold"):
        read_seg(tmp_path / "x", series_and_image()[1], threshold=threshold)


@pytest.mark.parametrize("labels", [3, 300], ids=["8-bit", "16-bit"])
def test_label_maps(labels: int, tmp_path: Path) -> None:
    series, image = series_and_image()
    values = np.random.default_rng(0).integers(0, labels + 1, SHAPE)
    values.flat[0] = labels
    path = save(seg(series, values.astype(np.uint16), "LABELMAP"), tmp_path)
    result = read_seg(path, image)
    assert len(result) == labels
    for segment in result:
        assert (segment.mask == on_array(values == segment.number)).all()


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, JPEG2000Lossless])
@pytest.mark.parametrize("kind", ["FRACTIONAL", "LABELMAP"])
def test_compressed_frames(syntax: str, kind: str, tmp_path: Path) -> None:
    shape = (3, 40, 36)
    series, image = series_and_image(shape)
    masks = blobs(shape, 1)
    given = masks.astype(float) if kind == "FRACTIONAL" else masks[..., 0]
    path = save(seg(series, given, kind, transfer_syntax_uid=syntax), tmp_path)
    (segment,) = read_seg(path, image)
    assert (segment.mask == on_array(masks[..., 0] > 0)).all()


def test_one_frame_of_a_2d_image(tmp_path: Path) -> None:
    series, image = series_and_image((1, 9, 7))
    flat = Volume(image.array[..., 0], image.affine, image.sources, image.header)
    mask = blobs((1, 9, 7), 2)
    (_, segment) = read_seg(save(seg(series, mask), tmp_path), flat)
    assert segment.shape == (7, 9)
    assert (segment.mask == on_array(mask[..., 1] > 0)[..., 0]).all()


@pytest.mark.parametrize("lps", [AXIAL, OBLIQUE], ids=["axial", "oblique"])
def test_a_subset_of_slices_in_another_order(lps: NDArray[np.float64], tmp_path: Path) -> None:
    series, image = series_and_image(affine_lps=lps)
    masks = blobs(count=1)
    order = [4, 1, 2]
    dataset = seg([series[i] for i in order], masks[order])
    expected = np.zeros(SHAPE, bool)
    expected[order] = masks[order, :, :, 0] > 0
    (segment,) = read_seg(save(dataset, tmp_path), image)
    assert (segment.mask == on_array(expected)).all()


@pytest.mark.parametrize("lps", [AXIAL, OBLIQUE], ids=["axial", "oblique"])
def test_cropped_rows_and_columns(lps: NDArray[np.float64], tmp_path: Path) -> None:
    _, image = series_and_image(affine_lps=lps)
    part = lps.copy()
    part[:3, 3] += lps[:3, :3] @ [2, 3, 1]
    masks = blobs((3, 5, 4), 1)
    dataset = seg(classic(pixels((3, 5, 4)), part, series="crop"), masks)
    expected = np.zeros(SHAPE, bool)
    expected[1:4, 3:8, 2:6] = masks[..., 0] > 0
    result = read_seg(save(dataset, tmp_path), image)
    assert (result.segments[0].mask == on_array(expected)).all()
    assert result.notes == ()


def test_any_array_order_of_the_image_is_understood(tmp_path: Path) -> None:
    series, image = series_and_image(affine_lps=OBLIQUE)
    masks = blobs(count=1)
    path = save(seg(series, masks), tmp_path)
    (known,) = read_seg(path, image)
    axes, flips = (1, 2, 0), (True, False, True)
    turn = np.zeros((4, 4))
    turn[3, 3] = 1
    for new, (old, flip) in enumerate(zip(axes, flips, strict=True)):
        turn[old, new] = -1 if flip else 1
        turn[old, 3] = image.shape[old] - 1 if flip else 0
    step = tuple(slice(None, None, -1 if flip else 1) for flip in flips)
    turned = Volume(
        image.array.transpose(0, *(a + 1 for a in axes)), image.affine @ turn, (), image.header
    )
    (segment,) = read_seg(path, turned)
    assert (segment.mask == known.mask.transpose(axes)[step]).all()


@pytest.mark.parametrize("lps", [AXIAL, OBLIQUE], ids=["axial", "oblique"])
@pytest.mark.parametrize("factor", [(2, 2, 2), (0.5, 0.5, 0.5), (1.3, 0.7, 0.9), (1, 1, 3)])
def test_another_spacing_takes_the_voxel_that_holds_the_centre(
    lps: NDArray[np.float64], factor: tuple[float, ...], tmp_path: Path
) -> None:
    shape = (8, 12, 10)
    _, image = series_and_image(shape, lps)
    other = lps.copy()
    other[:3, :3] = lps[:3, :3] * factor
    other[:3, 3] += lps[:3, :3] @ [0.31, 0.17, 0.23]  # no centre lies on a face
    small = tuple(int(n / f) for n, f in zip(shape, reversed(factor), strict=True))
    masks = blobs(small, 1)
    series = classic(pixels(small), other, series="other", SpacingBetweenSlices=factor[2] * 2.5)
    dataset = seg(series, masks)
    measures = dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    measures.SpacingBetweenSlices = float(np.linalg.norm(other[:3, 2]))
    result = read_seg(save(dataset, tmp_path), image)
    to_seg = np.linalg.inv(other) @ np.diag([-1, -1, 1, 1]) @ image.affine
    index = to_seg[:3, :3] @ np.indices(image.shape).reshape(3, -1) + to_seg[:3, 3:]
    column, row, plane = np.floor(index + 0.5).astype(int)
    inside = (column >= 0) & (row >= 0) & (plane >= 0)
    inside &= (column < small[2]) & (row < small[1]) & (plane < small[0])
    expected = np.zeros(inside.shape, bool)
    expected[inside] = masks[plane[inside], row[inside], column[inside], 0] > 0
    assert expected.any()
    assert (result.segments[0].mask.ravel() == expected).all()
    assert kinds(result)[0] == "resampled"


def test_a_turned_grid_is_resampled(tmp_path: Path) -> None:
    """A ball keeps its volume and place on a grid at another angle."""
    shape = (24, 26, 28)
    lps = affine((1, 1, 1), (0, 0, 0))
    _, image = series_and_image(shape, lps)
    turned = affine((0.9, 0.8, 1.1), (-8, -9, -10), (20, 30, 40))
    turned[:3, 3] += np.array([13.5, 12.5, 11.5]) - (turned @ [19.5, 19.5, 19.5, 1])[:3]
    masks = _ball((40, 40, 40), turned)[..., None]
    dataset = seg(classic(pixels((40, 40, 40)), turned, series="turned"), masks)
    result = read_seg(save(dataset, tmp_path), image)
    expected = on_array(_ball(shape, lps) > 0)
    mask = result.segments[0].mask
    dice = 2 * (mask & expected).sum() / (mask.sum() + expected.sum())
    assert dice > 0.95
    assert kinds(result) == ["resampled"]


def _ball(shape: tuple[int, ...], lps: NDArray[np.float64]) -> NDArray[np.uint8]:
    plane, row, column = np.indices(shape).reshape(3, -1)
    points = lps[:3, :3] @ [column, row, plane] + lps[:3, 3:]
    away = np.linalg.norm(points - [[13.5], [12.5], [11.5]], axis=0)
    return (away < 8).reshape(shape).astype(np.uint8)


def test_planes_shifted_by_gantry_tilt_are_placed_each_by_itself(tmp_path: Path) -> None:
    series, image = series_and_image()
    masks = blobs(count=1)
    dataset = seg(series, masks, omit_empty_frames=False)
    for group in dataset.PerFrameFunctionalGroupsSequence:
        place = group.PlanePositionSequence[0].ImagePositionPatient
        plane = round((float(place[2]) - 100) / 2.5)
        place[1] = float(place[1]) + plane * 2 * 0.9  # two rows down per plane
    result = read_seg(save(dataset, tmp_path), image)
    expected = np.zeros(SHAPE, bool)
    for plane in range(SHAPE[0]):
        shift = 2 * plane
        expected[plane, shift:] = masks[plane, : SHAPE[1] - shift, :, 0]
    assert (result.segments[0].mask == on_array(expected)).all()
    assert kinds(result) == ["outside-image"]


def test_what_lies_outside_is_counted(tmp_path: Path) -> None:
    _, image = series_and_image()
    shifted = AXIAL.copy()
    shifted[:3, 3] += AXIAL[:3, :3] @ [3, 0, 2]
    masks = np.ones((*SHAPE, 1), np.uint8)
    result = read_seg(save(seg(classic(pixels(SHAPE), shifted), masks), tmp_path), image)
    assert result.segments[0].voxels == 4 * 9 * 3
    assert kinds(result) == ["outside-image"]
    assert f" {7 * 9 * 5 - 4 * 9 * 3} voxels" in result.notes[0].message
    away = AXIAL.copy()
    away[:3, 3] += 500
    path = save(seg(classic(pixels(SHAPE), away), masks), tmp_path)
    assert refused(path, image).problem.kind == "outside-image"


def test_empty_segments_are_kept_and_told(tmp_path: Path) -> None:
    series, image = series_and_image()
    masks = blobs(count=2)
    masks[..., 1] = 0
    result = read_seg(save(seg(series, masks), tmp_path), image)
    assert [s.voxels > 0 for s in result] == [True, False]
    assert not result.segments[1].mask.any()
    assert kinds(result) == ["empty-segment"]


def test_another_frame_of_reference_is_refused(tmp_path: Path) -> None:
    series, _ = series_and_image()
    path = save(seg(series, blobs()), tmp_path)
    other = image_of(classic(pixels(SHAPE), FrameOfReferenceUID="1.2.3"), AXIAL)
    assert refused(path, other).problem.kind == "other-frame-of-reference"


def test_without_a_frame_of_reference_the_series_must_be_named(tmp_path: Path) -> None:
    series, image = series_and_image()
    dataset = seg(series, blobs())
    del dataset.FrameOfReferenceUID
    path = save(dataset, tmp_path)
    assert kinds(read_seg(path, image)) == ["no-frame-of-reference"]
    other = image_of(classic(pixels(SHAPE), series="b"), AXIAL)
    assert refused(path, other).problem.kind == "no-frame-of-reference"


def test_the_image_must_be_from_dicom(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="not read from DICOM"):
        read_seg(tmp_path / "x.dcm", Volume(np.zeros((1, 2, 2, 2)), np.eye(4)))


def test_what_it_refers_to() -> None:
    series, _ = series_and_image()
    dataset = seg(series, blobs())
    assert referenced_series(dataset) == series[0].SeriesInstanceUID
    assert referenced_instances(dataset) == {instance.SOPInstanceUID for instance in series}
    assert referenced_series(Dataset()) is None
    assert referenced_instances(Dataset()) == frozenset()


@pytest.mark.peer
@pytest.mark.parametrize("lps", [AXIAL, OBLIQUE], ids=["axial", "oblique"])
def test_dcmqi_reads_the_same(lps: NDArray[np.float64], tmp_path: Path) -> None:
    tool = shutil.which("segimage2itkimage", path=_beside_python()) or shutil.which(
        "segimage2itkimage"
    )
    if tool is None:
        pytest.skip("segimage2itkimage is not installed: pip install dcmqi")
    series, image = series_and_image(affine_lps=lps)
    path = save(seg(series, blobs(), omit_empty_frames=False), tmp_path)
    command = [tool, "-t", "nrrd", "-p", "s", "--inputDICOM", path, "--outputDirectory", tmp_path]
    subprocess.run([str(part) for part in command], check=True, capture_output=True)
    meta = json.loads((tmp_path / "s-meta.json").read_text())
    assert len(meta["segmentAttributes"]) == 3
    for segment in read_seg(path, image):
        theirs = nrrd_on(tmp_path / f"s-{segment.number}.nrrd", image)
        assert (segment.mask == (theirs != 0)).all()


def _beside_python() -> str:
    return str(Path(sys.executable).parent)


@pytest.mark.peer
@pytest.mark.parametrize("lps", [AXIAL, OBLIQUE], ids=["axial", "oblique"])
@pytest.mark.parametrize("kind", ["BINARY", "LABELMAP"])
def test_highdicom_reads_the_same(lps: NDArray[np.float64], kind: str, tmp_path: Path) -> None:
    series, image = series_and_image(affine_lps=lps)
    masks = blobs(count=1)
    path = save(seg(series, masks if kind == "BINARY" else masks[..., 0], kind), tmp_path)
    volume = hd.seg.segread(path).get_volume(combine_segments=False)
    to_theirs = np.linalg.inv(volume.affine) @ np.diag([-1, -1, 1, 1]) @ image.affine
    index = to_theirs[:3, :3] @ np.indices(image.shape).reshape(3, -1) + to_theirs[:3, 3:]
    assert np.abs(index - np.rint(index)).max() < 1e-3
    index = np.rint(index).astype(int)
    inside = ((index.T >= 0) & (np.array(volume.spatial_shape) > index.T)).all(axis=1)
    theirs = np.zeros(inside.shape, bool)
    theirs[inside] = volume.array[..., 0][tuple(index[:, inside])] > 0
    ours = next(s for s in read_seg(path, image) if s.number == 1)
    assert (ours.mask.ravel() == theirs).all()
