"""Planes that make no volume, pictures, and headers with odd numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset

from medseg_nca.io.dicom.series.instances import read_instance
from tests.io.dicom import build
from tests.io.dicom.stacked import kinds, names, series, sort

US, US_FILM = "1.2.840.10008.5.1.4.1.1.6.1", "1.2.840.10008.5.1.4.1.1.3.1"


def test_planes_of_other_sizes_are_refused() -> None:
    other = build.classic(build.pixels((1, 6, 6)), build.affine(origin=(-40, -30, 107.5)))
    assert kinds(sort([*series(), *other]).problems) == ["mixed-shapes"]
    other = series(build.affine((0.9, 0.91, 2.5), origin=(-40, -30, 107.5)), 1, name="o")
    done = sort([*series(), *other])
    assert kinds(done.problems) == ["mixed-spacing"]
    assert "0.9 x 0.9, 0.91 x 0.9" in done.problems[0].message


def test_one_plane_without_position_is_named() -> None:
    datasets = series()
    del datasets[1].ImagePositionPatient
    done = sort(datasets, shuffle=False)
    assert kinds(done.problems) == ["no-position"]
    assert "001" in done.problems[0].message


def test_frames_of_reference_do_not_mix() -> None:
    datasets = series()
    datasets[0].FrameOfReferenceUID = build.uid("another")
    assert kinds(sort(datasets).problems) == ["mixed-frames-of-reference"]
    datasets[0].FrameOfReferenceUID = ""
    assert names(sort(datasets)) == [""]


def test_a_mosaic_is_refused_by_name() -> None:
    done = sort(series(ImageType=["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"]))
    assert kinds(done.problems) == ["mosaic"]
    assert "dcm2niix" in done.problems[0].message
    assert done.problems[0].message.endswith("(2 more files)")


def a_picture(number: int | None = 1, **tags: Any) -> Dataset:
    unplaced = dict.fromkeys(
        ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness")
    )
    colour = build.pixels((1, 8, 6, 3), dtype="uint8")
    dataset = build.classic(colour, modality="OT", **unplaced, **tags)[0]
    dataset.InstanceNumber = number
    dataset.SOPInstanceUID = build.uid("picture", number)
    return dataset


def test_pictures_are_2d_images() -> None:
    done = sort([a_picture()])
    assert names(done) == [""]
    assert done.stacks[0].shape == (6, 8)
    assert kinds(done.notes) == ["no-spacing"]
    assert names(sort([a_picture(7), a_picture(9)], shuffle=False)) == ["image-7", "image-9"]
    assert names(sort([a_picture(None), a_picture(None)])) == ["image-1", "image-2"]


def test_the_frames_of_a_film_are_2d_images() -> None:
    dataset = a_picture(SOPClassUID=US_FILM, Modality="US")
    build.set_pixels(dataset, build.pixels((4, 8, 6, 3), dtype="uint8"))
    dataset.NumberOfFrames = 4
    done = sort([dataset])
    assert names(done) == ["frame-1", "frame-2", "frame-3", "frame-4"]
    assert [stack.planes[0].frame for stack in done.stacks] == [0, 1, 2, 3]
    other = a_picture(2, SOPClassUID=US)
    assert names(sort([dataset, other], shuffle=False))[-2:] == ["film-1_frame-4", "image-2"]


def test_a_screen_shot_in_a_series_leaves_its_volume() -> None:
    done = sort([*series(), a_picture(99)])
    assert names(done) == ["volume", "image-99"]


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({"PixelSpacing": ["0.2", "0.3"]}, (0.2, 0.3)),
        ({"ImagerPixelSpacing": ["0.14", "0.15"]}, (0.14, 0.15)),
        ({"NominalScannedPixelSpacing": ["0.05", "0.06"]}, (0.05, 0.06)),
        ({"PixelSpacing": ["0.2", "0.3"], "ImagerPixelSpacing": ["1", "1"]}, (0.2, 0.3)),
        ({"PixelSpacing": ["0", "0"], "ImagerPixelSpacing": ["1", "2"]}, (1, 2)),
    ],
)
def test_size_of_a_pixel_of_a_picture(tags: dict[str, Any], expected: tuple[float, float]) -> None:
    dataset = a_picture(SOPClassUID="1.2.840.10008.5.1.4.1.1.1")
    for keyword, value in tags.items():
        setattr(dataset, keyword, value)
    if tags.get("PixelSpacing") == ["0", "0"]:
        assert kinds(sort([dataset]).problems) == ["bad-value"]
        return
    assert sort([dataset]).stacks[0].planes[0].spacing == expected


def test_size_of_a_pixel_of_ultrasound() -> None:
    region = Dataset()
    region.PhysicalUnitsXDirection = region.PhysicalUnitsYDirection = 3
    region.PhysicalDeltaX, region.PhysicalDeltaY = 0.02, 0.01
    dataset = a_picture(SOPClassUID=US, SequenceOfUltrasoundRegions=[region])
    assert sort([dataset]).stacks[0].planes[0].spacing == pytest.approx((0.1, 0.2))


def test_a_ct_without_position_is_no_picture() -> None:
    datasets = series(count=1, ImagePositionPatient=None)
    assert kinds(sort(datasets).problems) == ["no-position"]


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("0.9\\0.9 \0", (0.9, 0.9)),
        (" 0.9mm\\0.9 mm", (0.9, 0.9)),
        ("+9.0E-1\\.9", (0.9, 0.9)),
        ("0,9\\0,9", None),
        ("0.9", None),
        ("0.9\\0.9\\0.9", None),
        ("nan\\0.9", None),
        ("1e999\\0.9", None),
        ("-0.9\\0.9", None),
    ],
)
def test_noise_around_numbers(raw: str, expected: tuple[float, float] | None) -> None:
    from pydicom.dataelem import RawDataElement
    from pydicom.tag import Tag

    dataset = series(count=1)[0]
    tag = Tag("PixelSpacing")
    del dataset[tag]
    dataset[tag] = RawDataElement(tag, "DS", len(raw), raw.encode(), 0, False, True)
    instance = read_instance(Path("a"), dataset)
    if expected is None:
        assert kinds(instance.problems) == ["bad-value"]
        assert "PixelSpacing" in instance.problems[0].message
    else:
        assert not instance.problems
        assert instance.planes[0].spacing == expected


@pytest.mark.parametrize("cosines", [[0] * 6, [1, 0, 0, 1, 0, 0], [2, 0, 0, 0, 1, 0]])
def test_directions_that_are_none_are_refused(cosines: list[float]) -> None:
    done = sort(series(ImageOrientationPatient=cosines))
    assert kinds(done.problems) == ["bad-orientation"]


@pytest.mark.parametrize("count", [0, -3, 10**9])
def test_an_absurd_number_of_frames_is_refused(count: int) -> None:
    dataset = build.enhanced(build.pixels((3, 8, 6)))
    dataset.NumberOfFrames = count
    assert kinds(sort([dataset]).problems) == ["bad-value"]


def test_frames_that_are_not_all_described_are_refused() -> None:
    dataset = build.enhanced(build.pixels((3, 8, 6)))
    dataset.PerFrameFunctionalGroupsSequence.pop()
    assert kinds(sort([dataset]).problems) == ["frame-count"]
    del dataset.NumberOfFrames
    assert sort([dataset]).stacks[0].shape == (6, 8, 2)


def test_minus_zero_and_missing_numbers_are_no_obstacle() -> None:
    datasets = series(build.affine(origin=(-0.0, -0.0, 0.0)))
    for dataset in datasets:
        dataset.ImageOrientationPatient = ["1", "-0", "-0.0", "-0", "1", "-0"]
        for keyword in ("InstanceNumber", "PatientBirthDate", "PatientSex", "SeriesNumber"):
            del dataset[keyword]
    done = sort(datasets)
    assert names(done) == [""]
    assert not np.signbit(done.stacks[0].affine[done.stacks[0].affine == 0]).any()


def test_an_unknown_class_with_pixels_is_an_image() -> None:
    assert names(sort(series(SOPClassUID="1.3.46.670589.11.0.0.12.4"))) == [""]


def test_names_of_stacks_are_safe_whatever_the_file_calls_them() -> None:
    dataset = build.enhanced(build.pixels((6, 8, 6)))
    for k, group in enumerate(dataset.PerFrameFunctionalGroupsSequence):
        group.FrameContentSequence[0].StackID = "../../A" if k < 3 else 'b",C'
    assert names(sort([dataset])) == ["stack-a", "stack-b-c"]
    for k, group in enumerate(dataset.PerFrameFunctionalGroupsSequence):
        group.FrameContentSequence[0].StackID = "A" if k < 3 else "a"
    assert names(sort([dataset])) == ["stack-1", "stack-2"]


def test_orientations_are_counted() -> None:
    turned = [build.affine(degrees=(0, 0, k / 10)) for k in range(20)]
    planes = [series(affine, count=1, name=str(k))[0] for k, affine in enumerate(turned)]
    done = sort(planes, shuffle=False)
    assert kinds(done.problems) == ["mixed-orientations"]
    assert done.problems[0].message.startswith("20 orientations")
