"""DICOM SEG objects that lie, are incomplete, or are damaged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset

from medseg_nca.io.dicom.annotations.seg import read_seg
from tests.io.dicom.build import uid
from tests.io.dicom.damaged import read_damaged
from tests.io.dicom.segs import SHAPE, blobs, kinds, refused, save, seg, series_and_image


def _wrong_segment(d: Dataset) -> None:
    d.SegmentSequence = d.SegmentSequence[:2]


def test_frames_of_undescribed_segments_are_left_out(tmp_path: Path) -> None:
    series, image = series_and_image()
    masks = blobs()
    dataset = seg(series, masks)
    _wrong_segment(dataset)
    result = read_seg(save(dataset, tmp_path), image)
    assert [s.number for s in result] == [1, 2]
    assert kinds(result) == ["unknown-segment"]
    assert f" {masks[..., 2].sum()} pixels" in result.notes[0].message


def test_undescribed_values_of_a_label_map_are_left_out(tmp_path: Path) -> None:
    series, image = series_and_image()
    values = np.full(SHAPE, 2, np.uint8)
    values[0] = 1
    dataset = seg(series, values, "LABELMAP")
    dataset.SegmentSequence = [s for s in dataset.SegmentSequence if s.SegmentNumber != 2]
    result = read_seg(save(dataset, tmp_path), image)
    assert [s.number for s in result if s.number] == [1]
    assert kinds(result) == ["unknown-segment"]


def _no_groups(d: Dataset) -> None:
    del d.PerFrameFunctionalGroupsSequence


def _few_groups(d: Dataset) -> None:
    d.PerFrameFunctionalGroupsSequence = d.PerFrameFunctionalGroupsSequence[:-1]


def _no_identification(d: Dataset) -> None:
    del d.PerFrameFunctionalGroupsSequence[1].SegmentIdentificationSequence


def _no_position(d: Dataset) -> None:
    del d.PerFrameFunctionalGroupsSequence[1].PlanePositionSequence


def _far_position(d: Dataset) -> None:
    place = d.PerFrameFunctionalGroupsSequence[1].PlanePositionSequence[0]
    place.ImagePositionPatient = ["1e300", "0", "0"]


def _no_orientation(d: Dataset) -> None:
    del d.SharedFunctionalGroupsSequence


def _skew(d: Dataset) -> None:
    shared = d.SharedFunctionalGroupsSequence[0]
    shared.PlaneOrientationSequence[0].ImageOrientationPatient = [1, 0, 0, 0.7, 0.7, 0]


def _no_size(d: Dataset) -> None:
    d.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing = [0, 1]


def _turned_frame(d: Dataset) -> None:
    orientation = Dataset()
    orientation.ImageOrientationPatient = [0, 1, 0, 0, 0, 1]
    d.PerFrameFunctionalGroupsSequence[2].PlaneOrientationSequence = [orientation]


def _tiles(d: Dataset) -> None:
    first, second = d.PerFrameFunctionalGroupsSequence[:2]
    place = [float(v) for v in first.PlanePositionSequence[0].ImagePositionPatient]
    second.PlanePositionSequence[0].ImagePositionPatient = [place[0] + 50, *place[1:]]


def _two_times(d: Dataset) -> None:
    first, second = d.PerFrameFunctionalGroupsSequence[:2]
    second.PlanePositionSequence = first.PlanePositionSequence


def _no_segments(d: Dataset) -> None:
    d.SegmentSequence = []


def _twins(d: Dataset) -> None:
    d.SegmentSequence[1].SegmentNumber = 1


def _type(d: Dataset) -> None:
    d.SegmentationType = "SURFACE"


def _image(d: Dataset) -> None:
    d.SOPClassUID = d.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.2.1"


def _surface(d: Dataset) -> None:
    d.SOPClassUID = d.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.66.5"


def _a_part(d: Dataset) -> None:
    d.ConcatenationUID = uid("seg in parts")
    d.InConcatenationNumber = 1


def _two_of_two(d: Dataset) -> None:
    _a_part(d)
    d.InConcatenationNumber = d.InConcatenationTotalNumber = 2


@pytest.mark.parametrize(
    ("damage", "kind"),
    [
        (_a_part, "incomplete-concatenation"),
        (_two_of_two, "incomplete-concatenation"),
        (_no_groups, "damaged"),
        (_few_groups, "damaged"),
        (_no_identification, "damaged"),
        (_no_position, "no-geometry"),
        (_far_position, "no-geometry"),
        (_no_orientation, "no-geometry"),
        (_skew, "no-geometry"),
        (_no_size, "no-geometry"),
        (_turned_frame, "mixed-orientations"),
        (_tiles, "tiled"),
        (_two_times, "ambiguous-frames"),
        (_no_segments, "no-segments"),
        (_twins, "damaged"),
        (_type, "damaged"),
        (_image, "not-a-segmentation"),
        (_surface, "surface-segmentation"),
    ],
)
def test_broken_objects_are_refused(
    damage: Callable[[Dataset], None], kind: str, tmp_path: Path
) -> None:
    series, image = series_and_image()
    dataset = seg(series, blobs())
    damage(dataset)
    assert refused(save(dataset, tmp_path), image).problem.kind == kind


def test_the_only_part_of_a_concatenation_is_whole(tmp_path: Path) -> None:
    series, image = series_and_image()
    dataset = seg(series, blobs())
    _a_part(dataset)
    dataset.InConcatenationTotalNumber = 1
    assert len(read_seg(save(dataset, tmp_path), image).segments) > 0


def test_frames_of_nothing(tmp_path: Path) -> None:
    series, image = series_and_image()
    dataset = seg(series, blobs())
    del dataset.PixelData
    assert refused(save(dataset, tmp_path), image).problem.kind in {"no-frames", "truncated"}


def test_bits_that_are_not_there(tmp_path: Path) -> None:
    series, image = series_and_image()
    dataset = seg(series, blobs())
    dataset.PixelData = dataset.PixelData[:-8]
    assert refused(save(dataset, tmp_path), image).problem.kind in {"truncated", "damaged"}


def test_a_fractional_one_must_have_its_maximum(tmp_path: Path) -> None:
    series, image = series_and_image()
    dataset = seg(series, blobs().astype(float), "FRACTIONAL")
    del dataset.MaximumFractionalValue
    assert refused(save(dataset, tmp_path), image).problem.kind == "damaged"


def test_a_claim_of_huge_frames_takes_no_memory(tmp_path: Path) -> None:
    series, image = series_and_image()
    dataset = seg(series, blobs())
    dataset.Rows = dataset.Columns = 65535
    assert refused(save(dataset, tmp_path), image).problem.kind in {"too-large", "truncated"}


@pytest.mark.parametrize("seed", range(6))
def test_any_cut_or_changed_file_is_read_or_refused(seed: int, tmp_path: Path) -> None:
    series, image = series_and_image()
    path = save(seg(series, blobs()), tmp_path)
    read_damaged(path, seed, lambda: read_seg(path, image))
