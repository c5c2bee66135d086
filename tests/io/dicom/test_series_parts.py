"""Directions that makers write their own way, concatenations, and slices that are missing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset

from tests.io.dicom import build
from tests.io.dicom.slices import assert_whole, kinds, names, serial, sort, the_same


def private(dataset: Dataset, group: int, creator: str, element: int, vr: str, value: Any) -> None:
    dataset.private_block(group, creator, create=True).add_new(element, vr, value)


DIRECTIONS = [(1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.6, 0.8)]


def philips(dataset: Dataset, volume: int) -> None:
    private(dataset, 0x2001, "Philips Imaging DD 001", 0x03, "FL", 800.0)
    for k, value in enumerate(DIRECTIONS[volume]):
        private(dataset, 0x2005, "Philips MR Imaging DD 001", 0xB0 + k, "FL", value)


def philips_of_unknown_vr(dataset: Dataset, volume: int) -> None:
    for k, value in enumerate(DIRECTIONS[volume]):
        raw = np.float32(value).tobytes()
        private(dataset, 0x2005, "Philips MR Imaging DD 001", 0xB0 + k, "UN", raw)


def philips_number(dataset: Dataset, volume: int) -> None:
    private(dataset, 0x2005, "Philips MR Imaging DD 005", 0x13, "IS", volume + 1)


def siemens(dataset: Dataset, volume: int) -> None:
    private(dataset, 0x0019, "SIEMENS MR HEADER", 0x0C, "IS", 800)
    private(dataset, 0x0019, "SIEMENS MR HEADER", 0x0E, "FD", list(DIRECTIONS[volume]))


def siemens_of_unknown_vr(dataset: Dataset, volume: int) -> None:
    raw = np.array(DIRECTIONS[volume]).tobytes()
    private(dataset, 0x0019, "SIEMENS MR HEADER", 0x0C, "UN", b"800 ")
    private(dataset, 0x0019, "SIEMENS MR HEADER", 0x0E, "UN", raw)


def ge(dataset: Dataset, volume: int) -> None:
    private(dataset, 0x0043, "GEMS_PARM_01", 0x39, "IS", [1000000800, 8, 0, 0])
    for k, value in enumerate(DIRECTIONS[volume]):
        private(dataset, 0x0019, "GEMS_ACQU_01", 0xBB + k, "DS", str(value))


@pytest.mark.parametrize(
    "vendor",
    [philips, philips_of_unknown_vr, philips_number, siemens, siemens_of_unknown_vr, ge],
)
def test_private_directions(vendor: Callable[[Dataset, int], None]) -> None:
    def change(dataset: Dataset, volume: int, z: int) -> None:
        vendor(dataset, volume)
        dataset.InstanceNumber = the_same(volume, z) + 100 * (volume + z % 2)  # tells nothing

    done = sort(serial(3, change=change))
    assert len(done.stacks) == 3
    assert {stack.name.split("_")[-1].split("-")[0] for stack in done.stacks} == {"direction"}
    assert_whole(done, 3)


def test_user_data_of_a_ge_scan_without_diffusion_is_no_direction() -> None:
    def change(dataset: Dataset, volume: int, z: int) -> None:
        for k in range(3):
            private(dataset, 0x0019, "GEMS_ACQU_01", 0xBB + k, "DS", str((volume * z) % 3))

    assert names(sort(serial(2, change=change))) == ["volume-1", "volume-2"]


def test_a_mosaic_whose_type_was_changed_is_refused() -> None:
    made = build.classic(build.pixels((2, 8, 6)), modality="MR")
    for dataset in made:
        private(dataset, 0x0019, "SIEMENS MR HEADER", 0x0A, "US", 16)
    assert kinds(sort(made)) == ["mosaic"]


# Declared counts.


def concatenation(parts: int = 2, each: int = 4, **tags: Any) -> list[Dataset]:
    """One image in several files, as PS3.3 C.7.6.16.2.2.4 has them."""
    whole = build.affine((0.9, 0.9, 3.0))
    found = []
    for part in range(parts):
        affine = whole.copy()
        affine[:3, 3] += part * each * whole[:3, 2]
        made = build.enhanced(build.pixels((each, 8, 6), seed=part), affine, **tags)
        made.SOPInstanceUID = build.uid("part", part)
        made.ConcatenationUID = build.uid("concatenation")
        made.SOPInstanceUIDOfConcatenationSource = build.uid("source")
        made.InConcatenationNumber = part + 1
        made.InConcatenationTotalNumber = parts
        made.ConcatenationFrameOffsetNumber = part * each
        found.append(made)
    return found


def test_a_whole_concatenation_is_one_volume() -> None:
    (stack,) = sort(concatenation(3)).stacks
    assert len(stack.planes) == 12


@pytest.mark.parametrize("lost", [0, 1, 2])
@pytest.mark.parametrize("total", [True, False], ids=["total", "no total"])
@pytest.mark.parametrize("uid", ["ConcatenationUID", "SOPInstanceUIDOfConcatenationSource"])
def test_a_part_of_a_concatenation_is_refused(lost: int, total: bool, uid: str) -> None:
    made = concatenation(3)
    del made[lost]
    for dataset in made:
        delattr(dataset, uid)  # the other is enough
        if not total:
            del dataset.InConcatenationTotalNumber
    done = sort(made)
    if lost == 2 and not total:  # nobody can know
        assert len(done.stacks) == 1
    else:
        assert kinds(done) == ["incomplete-concatenation"]
        assert not done.stacks


def test_parts_that_do_not_say_of_how_many_are_told() -> None:
    """The last one may be missing, and nothing tells."""
    made = concatenation(3)[:2]
    for part in made:
        del part.InConcatenationTotalNumber
    done = sort(made)
    assert not done.problems
    (note,) = done.notes
    assert note.kind == "fewer-images"
    assert "2 files are parts of one image, and none says of how many" in note.message
    assert not sort(concatenation(3)).notes


def test_frames_that_a_part_of_a_concatenation_lacks_are_missed() -> None:
    made = concatenation(2)
    made[0].NumberOfFrames = 3
    del made[0].PerFrameFunctionalGroupsSequence[-1]
    done = sort(made)
    assert kinds(done) == ["incomplete-concatenation"]
    assert "starts with frame 5, after 3 frames" in done.problems[0].message
    twice = concatenation(2)
    twice[1].InConcatenationNumber = 1
    assert kinds(sort(twice)) == ["incomplete-concatenation"]


@pytest.mark.parametrize(
    ("volumes", "tags"),
    [
        (1, {"ImagesInAcquisition": 5}),
        (2, {"NumberOfTemporalPositions": 3}),
        (1, {"NumberOfSlices": 6}),
        (2, {"NumberOfTimeSlices": 4, "NumberOfSlices": 4}),
        (2, {"CardiacNumberOfImages": 25}),
    ],
)
def test_fewer_images_than_declared_are_told(volumes: int, tags: dict[str, int]) -> None:
    done = sort(serial(volumes, **tags))
    assert len(done.stacks) == volumes
    (note,) = [note for note in done.notes if note.kind != "by-number"]
    assert note.kind == "fewer-images"
    keyword, count = next(iter(tags.items()))
    assert f"declares {count} ({keyword})" in note.message


@pytest.mark.parametrize(
    "tags",
    [
        {"ImagesInAcquisition": 8},
        {"NumberOfTemporalPositions": 2},
        {"NumberOfSlices": 4, "NumberOfTimeSlices": 2},
        {"NumberOfTemporalPositions": 0},
        {"SpacingBetweenSlices": "-2.5"},
        {"SpacingBetweenSlices": "2.49"},
    ],
)
def test_counts_that_hold_are_not_told(tags: dict[str, Any]) -> None:
    assert [note.kind for note in sort(serial(2, **tags)).notes] == ["by-number"]


def test_every_second_slice_is_missed_where_the_spacing_is_declared() -> None:
    made = serial(1, count=9, SpacingBetweenSlices="2.5")[::2]
    done = sort(made)
    (note,) = done.notes
    assert note.kind == "wider-spacing"
    assert "5 mm apart, and SpacingBetweenSlices is 2.5" in note.message


@pytest.mark.parametrize("every", [2, 3])
def test_numbers_that_skip_slices_as_thick_as_the_gaps_are_told(every: int) -> None:
    whole = build.classic(build.pixels((12, 8, 6)))
    done = sort(whole[::every])
    assert names(done) == [""]
    assert [note.kind for note in done.notes] == ["wider-spacing"]
    assert "SliceThickness is 2.5" in done.notes[0].message


def test_thin_slices_with_gaps_that_are_numbered_on_are_not_told() -> None:
    thin = build.classic(build.pixels((6, 8, 6)), build.affine(spacing=(0.9, 0.9, 10.0)))
    for dataset in thin:
        dataset.SliceThickness = "1"
    assert not sort(thin).notes


def test_private_counts_are_compared() -> None:
    for group, creator, element in (
        (0x2001, "Philips Imaging DD 001", 0x18),
        (0x0021, "GEMS_RELA_01", 0x4F),
    ):
        made = serial(1)
        for dataset in made:
            private(dataset, group, creator, element, "SL", 6)
        (note,) = sort(made).notes
        assert note.kind == "fewer-images"


@pytest.mark.parametrize("lost", [0, 3])
def test_a_volume_that_lost_its_outermost_slice_is_told(lost: int) -> None:
    def change(dataset: Dataset, volume: int, z: int) -> None:
        dataset.TemporalPositionIdentifier = volume + 1

    made = serial(3, change=change)
    del made[4 + lost]
    done = sort(made)
    assert [len(stack.planes) for stack in done.stacks] == [4, 3, 4]
    (note,) = done.notes
    assert note.kind == "unequal-volumes"
    assert "time-2 has 3 planes, others of the series have 4" in note.message
