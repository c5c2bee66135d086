"""Which volume an annotation belongs to, by what it names, and the true reason where to none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset

from medseg_nca.io.dicom.annotations.assign import Assigned, assign, read_annotation
from medseg_nca.io.dicom.read import read_stack
from medseg_nca.io.dicom.scan import scan
from tests.io.dicom import build, referring

CT = build.classic(build.pixels())
FRAME = CT[0].FrameOfReferenceUID
ELSEWHERE = build.uid("elsewhere")
Made = Callable[..., Dataset]


def seg(**tags: Any) -> Dataset:
    return referring.seg(CT, np.ones((5, 8, 6, 1), np.uint8), **tags)


def rtstruct(**tags: Any) -> Dataset:
    corners = referring.square(build.AXIAL, 2, 1.0, 4.0)
    return referring.rtstruct(CT, {"m": [(2, corners)]}, **tags)


def bare(annotation: Dataset) -> Dataset:
    """An annotation that names no series and no instance."""
    for keyword in ("ReferencedSeriesSequence", "SourceImageSequence", "ReferencedImageSequence"):
        if keyword in annotation:
            del annotation[keyword]
    for group in annotation.get("PerFrameFunctionalGroupsSequence", []):
        del group.DerivationImageSequence
    for reference in annotation.get("ReferencedFrameOfReferenceSequence", []):
        del reference.RTReferencedStudySequence
    for roi in annotation.get("ROIContourSequence", []):
        for contour in roi.ContourSequence:
            del contour.ContourImageSequence
    return annotation


def place(folder: Path, *series: list[Dataset]) -> Assigned:
    for number, instances in enumerate(series):
        build.write(folder / str(number), instances)
    return assign(scan(folder))


def series_of(assigned: Assigned) -> list[str]:
    return [uid for uid, _ in assigned.by_stack]


def reason(assigned: Assigned) -> tuple[str, str]:
    (problem,) = assigned.refused.values()
    assert not assigned.by_stack
    return problem.kind, problem.message.split(": ", 1)[1]


BOTH = pytest.mark.parametrize("made", [seg, rtstruct])


@BOTH
def test_one_that_names_no_image_is_of_the_only_image_in_its_space(
    made: Made, tmp_path: Path
) -> None:
    other = build.classic(build.pixels(), series="b", FrameOfReferenceUID=ELSEWHERE)
    assigned = place(tmp_path, CT, other, [bare(made())])
    assert series_of(assigned) == [CT[0].SeriesInstanceUID]
    (group,) = assigned.by_stack.values()
    found = next(s for s in scan(tmp_path).series if s.uid == CT[0].SeriesInstanceUID)
    image = read_stack(found, found.stacks[0])
    read = read_annotation(group[0].path, group[0].kind, image)
    assert [note.kind for note in read.notes if note.kind == "no-reference"] == ["no-reference"]
    assert read.segments[0].voxels


@BOTH
def test_a_localizer_in_the_same_space_is_no_image(made: Made, tmp_path: Path) -> None:
    localizer = build.classic(
        build.pixels((3, 8, 6)), series="l", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]
    )
    assert series_of(place(tmp_path, CT, localizer, [bare(made())])) == [CT[0].SeriesInstanceUID]


@BOTH
def test_two_images_in_the_same_space(made: Made, tmp_path: Path) -> None:
    pet = build.classic(build.pixels(), modality="PT", series="b")
    kind, text = reason(place(tmp_path, CT, pet, [bare(made())]))
    assert kind == "no-reference"
    assert "names no series and no instance" in text
    assert "2 images of its patient have its frame of reference" in text


@BOTH
def test_a_refused_image_in_the_same_space_may_be_meant(made: Made, tmp_path: Path) -> None:
    gap = build.classic(build.pixels(), series="gap")
    kind, _ = reason(place(tmp_path / "two", CT, [*gap[:2], *gap[3:]], [bare(made())]))
    assert kind == "no-reference"
    kind, text = reason(place(tmp_path / "one", [*CT[:2], *CT[3:]], [bare(made())]))
    assert kind == "source-refused"
    assert "slices are missing" in text


@BOTH
def test_no_image_in_its_space(made: Made, tmp_path: Path) -> None:
    other = build.classic(build.pixels(), series="b", FrameOfReferenceUID=ELSEWHERE)
    kind, text = reason(place(tmp_path / "none", other, [bare(made())]))
    assert kind == "no-reference"
    assert "no image of its patient has its frame of reference" in text
    another = build.classic(build.pixels(), PatientID="SOMEBODY-ELSE")
    assert reason(place(tmp_path / "other", another, [bare(made())]))[0] == "no-reference"


@BOTH
def test_no_space_and_no_image(made: Made, tmp_path: Path) -> None:
    annotation = bare(made())
    del annotation.FrameOfReferenceUID
    if "StructureSetROISequence" in annotation:
        del annotation.ReferencedFrameOfReferenceSequence
        del annotation.StructureSetROISequence[0].ReferencedFrameOfReferenceUID
    kind, text = reason(place(tmp_path, CT, [annotation]))
    assert kind == "no-reference"
    assert "and no frame of reference" in text


def test_the_space_of_the_rois_alone(tmp_path: Path) -> None:
    annotation = bare(rtstruct())
    del annotation.FrameOfReferenceUID
    del annotation.ReferencedFrameOfReferenceSequence
    assert series_of(place(tmp_path, CT, [annotation])) == [CT[0].SeriesInstanceUID]


def test_an_image_of_its_own_study_comes_first(tmp_path: Path) -> None:
    later = build.classic(build.pixels(), series="b", study="b", FrameOfReferenceUID=FRAME)
    for instance in later:
        instance.FrameOfReferenceUID = FRAME
    assigned = place(tmp_path / "both", CT, later, [bare(seg())])
    assert series_of(assigned) == [CT[0].SeriesInstanceUID]
    alone = place(tmp_path / "alone", later, [bare(seg())])
    assert series_of(alone) == [later[0].SeriesInstanceUID]


@BOTH
def test_a_wrong_series_and_the_right_instances(made: Made, tmp_path: Path) -> None:
    annotation = made()
    for item in annotation.get("ReferencedSeriesSequence", []):
        item.SeriesInstanceUID = ELSEWHERE
    for item in annotation.get("ReferencedFrameOfReferenceSequence", []):
        item.RTReferencedStudySequence[0].RTReferencedSeriesSequence[
            0
        ].SeriesInstanceUID = ELSEWHERE
    assert series_of(place(tmp_path / "a", CT, [annotation])) == [CT[0].SeriesInstanceUID]
    there = build.classic(build.pixels(), series="b")
    for item in there:
        item.SeriesInstanceUID = ELSEWHERE
    both = place(tmp_path / "b", CT, there, [annotation])
    assert series_of(both) == [CT[0].SeriesInstanceUID]


@BOTH
def test_the_right_series_and_instances_that_are_not_there(made: Made, tmp_path: Path) -> None:
    again = build.classic(build.pixels())
    for number, instance in enumerate(again):
        instance.SOPInstanceUID = build.uid("sent again", number)
    assert series_of(place(tmp_path, again, [made()])) == [CT[0].SeriesInstanceUID]


@BOTH
def test_an_absent_image_is_named_as_the_reason_though_the_space_is_there(
    made: Made, tmp_path: Path
) -> None:
    there = build.classic(build.pixels(), series="b")
    kind, text = reason(place(tmp_path, there, [made()]))
    assert kind == "source-absent"
    assert "drawn on a series that is not in this folder" in text


def test_instances_of_a_refused_series(tmp_path: Path) -> None:
    annotation = seg()
    del annotation.ReferencedSeriesSequence
    kind, text = reason(place(tmp_path, [*CT[:2], *CT[3:]], [annotation]))
    assert kind == "source-refused"
    assert "slices are missing" in text


def named(keyword: str) -> Dataset:
    annotation = bare(seg())
    item = Dataset()
    item.ReferencedSOPClassUID = CT[0].SOPClassUID
    item.ReferencedSOPInstanceUID = CT[1].SOPInstanceUID
    if keyword == "DefinitionSourceSequence":
        annotation = bare(rtstruct())
        annotation.StructureSetROISequence[0].DefinitionSourceSequence = [item]
    elif keyword == "ReferencedImageSequence":
        annotation.PerFrameFunctionalGroupsSequence[0].ReferencedImageSequence = [item]
    else:
        setattr(annotation, keyword, [item])
    return annotation


@pytest.mark.parametrize(
    "keyword", ["SourceImageSequence", "ReferencedImageSequence", "DefinitionSourceSequence"]
)
def test_a_reference_in_any_place_decides_between_two_images(keyword: str, tmp_path: Path) -> None:
    twin = build.classic(build.pixels(), series="b")
    assigned = place(tmp_path, CT, twin, [named(keyword)])
    assert series_of(assigned) == [CT[0].SeriesInstanceUID]


def test_an_annotation_of_an_annotation(tmp_path: Path) -> None:
    first, second = seg(), seg(series="second")
    item = second.ReferencedSeriesSequence[0]
    item.SeriesInstanceUID = first.SeriesInstanceUID
    item.ReferencedInstanceSequence = item.ReferencedInstanceSequence[:1]
    item.ReferencedInstanceSequence[0].ReferencedSOPInstanceUID = first.SOPInstanceUID
    for group in second.PerFrameFunctionalGroupsSequence:
        del group.DerivationImageSequence
    if "SourceImageSequence" in second:
        del second.SourceImageSequence
    assigned = place(tmp_path, CT, [first], [second])
    (problem,) = assigned.refused.values()
    assert problem.kind == "source-absent"
    assert "refers to a series that holds no images" in problem.message


def test_a_presentation_state_is_no_annotation(tmp_path: Path) -> None:
    state = Dataset()
    for keyword in ("PatientID", "PatientName", "StudyInstanceUID", "SpecificCharacterSet"):
        setattr(state, keyword, CT[0].get(keyword))
    state.SOPClassUID = "1.2.840.10008.5.1.4.1.1.11.1"
    state.SOPInstanceUID, state.SeriesInstanceUID = build.uid("state"), build.uid("states")
    state.Modality = "PR"
    assigned = place(tmp_path, CT, [state], [bare(seg())])
    assert series_of(assigned) == [CT[0].SeriesInstanceUID]
    assert not assigned.refused


def test_an_image_without_a_space_is_taken_by_its_instances(tmp_path: Path) -> None:
    """A wrong series and no frame of reference: the instances place it."""
    planes = build.classic(build.pixels(), FrameOfReferenceUID=None)
    annotation = seg()
    annotation.ReferencedSeriesSequence[0].SeriesInstanceUID = ELSEWHERE
    assigned = place(tmp_path, planes, [annotation])
    ((uid, name), (found,)) = next(iter(assigned.by_stack.items()))
    series = next(s for s in scan(tmp_path).series if s.uid == uid)
    image = read_stack(series, next(s for s in series.stacks if s.name == name))
    read = read_annotation(found.path, found.kind, image)
    assert read.segments[0].voxels == 5 * 8 * 6
    assert [note.kind for note in read.notes] == ["no-frame-of-reference"]
