"""How planes are told apart and become volumes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from pydicom.dataset import Dataset

from medseg_nca.io.dicom.records import Stack
from tests.io.dicom import build
from tests.io.dicom.stacked import kinds, names, series, sort

SAGITTAL = build.affine(degrees=(0, 90, 0))
CORONAL = build.affine(degrees=(90, 0, 0))


def serial(keyword: str, values: Sequence[Any], count: int = 3, **tags: Any) -> list[Dataset]:
    """One volume a value."""
    return [d for v in values for d in series(count=count, **{keyword: v}, **tags)]


def z_of(stack: Stack) -> list[float]:
    return [(plane.position or (0, 0, 0))[2] for plane in stack.planes]


def test_one_volume_has_no_name() -> None:
    done = sort(series())
    assert names(done) == [""]
    assert z_of(done.stacks[0]) == [100, 102.5, 105]
    assert not done.notes


@pytest.mark.parametrize(
    ("keyword", "values", "expected"),
    [
        ("EchoNumbers", [2, 1], ["echo-1", "echo-2"]),
        ("EchoTime", [30.5, 10, 20], ["echo-1", "echo-2", "echo-3"]),
        ("DiffusionBValue", [0.0, 1000.0], ["b-0", "b-1000"]),
        ("TemporalPositionIdentifier", [1, 2, 10], ["time-1", "time-2", "time-3"]),
        ("TriggerTime", [0, 40, 80], ["time-1", "time-2", "time-3"]),
        ("AcquisitionNumber", [4, 12], ["acquisition-4", "acquisition-12"]),
        ("AcquisitionTime", ["101500", "101400.5"], ["time-1", "time-2"]),
        ("FrameReferenceTime", [100, 2000], ["time-1", "time-2"]),
        ("KVP", [140, 80], ["kv-80", "kv-140"]),
        ("ConvolutionKernel", ["B30f", "B60f"], ["kernel-b30f", "kernel-b60f"]),
        ("InversionTime", [800, 2500], ["ti-800", "ti-2500"]),
        ("FlipAngle", [5, 26], ["flip-5", "flip-26"]),
        (
            "ImageType",
            [["ORIGINAL", "PRIMARY", "M", "FFE"], ["ORIGINAL", "PRIMARY", "P", "FFE"]],
            ["type-m", "type-p"],
        ),
        (
            "ImageType",
            [["ORIGINAL", "PRIMARY", "M"], ["DERIVED", "PRIMARY", "M", "ADC"]],
            ["type-derived-adc", "type-original"],
        ),
    ],
)
def test_what_tells_volumes_apart(keyword: str, values: list[Any], expected: list[str]) -> None:
    done = sort(serial(keyword, values))
    assert names(done) == expected
    for stack in done.stacks:
        assert z_of(stack) == [100, 102.5, 105]
        assert len({str(plane.keys) for plane in stack.planes}) == 1


def test_time_is_in_order_of_its_value() -> None:
    done = sort(serial("TemporalPositionIdentifier", [10, 2, 1]))
    found = [stack.planes[0].keys["time"] for stack in done.stacks]
    assert found == [1, 2, 10]


def test_several_keys_at_once() -> None:
    datasets = [d for te in (10, 20) for d in serial("AcquisitionNumber", [1, 2], EchoTime=te)]
    assert names(sort(datasets)) == [
        "echo-1_acquisition-1",
        "echo-1_acquisition-2",
        "echo-2_acquisition-1",
        "echo-2_acquisition-2",
    ]


def test_times_that_differ_by_slice_too_are_ranked() -> None:
    datasets = serial("TriggerTime", [0, 0, 0])
    for k, dataset in enumerate(datasets):
        volume, slice_ = divmod(k, 3)
        dataset.TriggerTime = str(volume * 100 + slice_ * 7)
        dataset.SOPInstanceUID = build.uid("t", k)
    done = sort(datasets)
    assert names(done) == ["time-1", "time-2", "time-3"]
    for rank, stack in enumerate(done.stacks):
        assert [plane.keys["trigger"] for plane in stack.planes] == [
            rank * 100,
            rank * 100 + 7,
            rank * 100 + 14,
        ]


def test_values_that_differ_by_slice_only_split_nothing() -> None:
    datasets = series()
    for k, dataset in enumerate(datasets):
        dataset.AcquisitionTime = f"10110{k}"
        dataset.EchoTime, dataset.AcquisitionNumber = str(10 + k), k
    assert names(sort(datasets)) == [""]


def test_directions_follow_the_order_of_acquisition() -> None:
    vectors = [[0, 0, 1.0], [1.0, 0, 0], [0, 1.0, 0]]
    datasets = serial("DiffusionGradientOrientation", vectors, DiffusionBValue=1000.0)
    for k, dataset in enumerate(datasets):
        dataset.InstanceNumber = k + 1
    done = sort([*datasets, *series(name="b0", DiffusionBValue=0.0)])
    assert names(done) == ["b-0", *(f"b-1000_direction-{k}" for k in (1, 2, 3))]
    assert done.stacks[1].planes[0].keys["direction"] == "0\\0\\1"


@pytest.mark.parametrize(
    ("group", "creator", "element", "vr", "values"),
    [
        (0x0019, "SIEMENS MR HEADER", 0x0C, "IS", [0, 800]),
        (0x0019, "SIEMENS MR HEADER", 0x0C, "UN", [b"0 ", b"800 "]),
        (0x0043, "GEMS_PARM_01", 0x39, "IS", [[1000000000, 8], [1000000800, 8]]),
        (0x2001, "Philips Imaging DD 001", 0x03, "FL", [0.0, 800.0]),
        (0x2001, "Philips Imaging DD 001", 0x03, "UN", [b"\0\0\0\0", b"\0\0\x48\x44"]),
    ],
)
def test_private_b_values(
    group: int, creator: str, element: int, vr: str, values: list[Any]
) -> None:
    datasets = []
    for value in values:
        for dataset in series(name=str(value)):
            dataset.private_block(group, creator, create=True).add_new(element, vr, value)
            datasets.append(dataset)
    assert names(sort(datasets)) == ["b-0", "b-800"]


def test_acquisitions_that_overlap_by_a_slice_are_two_volumes() -> None:
    below = series(name="a", AcquisitionNumber=1)
    above = series(build.affine(origin=(-40, -30, 105.0)), name="b", AcquisitionNumber=2)
    done = sort([*below, *above])
    assert names(done) == ["acquisition-1", "acquisition-2"]
    assert [z_of(stack) for stack in done.stacks] == [[100, 102.5, 105], [105, 107.5, 110]]


def test_a_repeated_position_is_refused_with_its_place() -> None:
    datasets = series(count=4)
    again = series(count=4, name="again")[2]
    done = sort([*datasets, again])
    assert kinds(done.problems) == ["repeated-positions"]
    assert "1 position holds up to 2 planes" in done.problems[0].message
    assert "(-40, -30, 105)" in done.problems[0].message
    assert not done.stacks


def test_a_gap_in_one_echo_leaves_the_other() -> None:
    first = series(count=4, EchoNumbers=1)
    second = series(count=4, EchoNumbers=2)
    del second[1]
    done = sort([*first, *second])
    assert [stack.name for stack in done.stacks] == ["echo-1"]
    assert kinds(done.problems) == ["missing-slices"]
    assert done.problems[0].message.startswith("echo-2: 1 of 4 slices")


def test_many_planes_at_one_position_are_no_volume() -> None:
    done = sort(serial("AcquisitionNumber", [1, 2, 3], count=1))
    assert kinds(done.problems) == ["single-position"]
    assert "(-40, -30, 100)" in done.problems[0].message


def test_mixed_orientations_are_refused_and_named() -> None:
    done = sort([*series(), *series(SAGITTAL, name="s")], shuffle=False)
    assert kinds(done.problems) == ["mixed-orientations"]
    message = done.problems[0].message
    assert "3 axial planes at (-40, -30, 100), (-40, -30, 102.5)" in message
    assert "3 sagittal planes at (-40, -30, 100), (-37.5, -30, 100)" in message
    assert not done.stacks


def test_orientations_just_over_the_tolerance_are_refused() -> None:
    datasets = series(count=4)
    datasets[2].ImageOrientationPatient = [1, 0.0003, 0, -0.0003, 1, 0]
    done = sort(datasets)
    assert kinds(done.problems) == ["mixed-orientations"]
    datasets[2].ImageOrientationPatient = [1, 0.00005, 0, -0.00005, 1, 0]
    assert names(sort(datasets)) == [""]


def test_three_crossed_planes_are_a_localizer() -> None:
    affines = (build.AXIAL, SAGITTAL, CORONAL)
    done = sort([series(a, 1, name=str(k))[0] for k, a in enumerate(affines)], shuffle=False)
    assert kinds(done.problems) == ["localizer"]
    assert "1 coronal plane at (-40, -30, 100)" in done.problems[0].message


@pytest.mark.parametrize("scouts", [(CORONAL,), (CORONAL, SAGITTAL)])
def test_a_scout_that_says_it_is_a_slice_is_left_out(scouts: tuple[Any, ...]) -> None:
    crossing = [series(a, 1, name=f"scout {k}")[0] for k, a in enumerate(scouts)]
    done = sort([*series(), *crossing])
    assert names(done) == [""]
    assert len(done.stacks[0].planes) == len(series())
    (note,) = done.notes
    assert note.kind == "localizer"
    assert f"{len(scouts)} plane" in note.message


def test_a_slice_that_is_only_turned_is_no_scout() -> None:
    turned = series(build.affine(degrees=(20, 0, 0)), 1, name="turned")
    assert kinds(sort([*series(), *turned]).problems) == ["mixed-orientations"]


def test_a_localizer_by_name_is_left_out_or_refused() -> None:
    scout = series(CORONAL, 1, name="scout", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    done = sort([*series(), *scout])
    assert names(done) == [""]
    assert kinds(done.notes) == ["localizer"]
    assert kinds(sort(scout).problems) == ["localizer"]


def test_stacks_that_the_file_names_are_volumes_of_their_own() -> None:
    first = build.enhanced(build.pixels((3, 8, 6)), build.AXIAL)
    second = build.enhanced(build.pixels((3, 8, 6)), SAGITTAL)
    shared = second.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence
    own = first.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence
    for group in first.PerFrameFunctionalGroupsSequence:
        group.PlaneOrientationSequence = own
    for group in second.PerFrameFunctionalGroupsSequence:
        group.PlaneOrientationSequence = shared
        group.FrameContentSequence[0].StackID = "2"
        first.PerFrameFunctionalGroupsSequence.append(group)
    del first.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence
    first.NumberOfFrames = 6
    done = sort([first])
    assert names(done) == ["stack-1", "stack-2"]
    assert [plane.frame for plane in done.stacks[1].planes] == [3, 4, 5]


def packages(*stack_of: int) -> Dataset:
    """An enhanced file with a frame every 2.5 mm, each in the stack of its number."""
    dataset = build.enhanced(build.pixels((len(stack_of), 8, 6)))
    for stack, group in zip(stack_of, dataset.PerFrameFunctionalGroupsSequence, strict=True):
        group.FrameContentSequence[0].StackID = str(stack)
    return dataset


@pytest.mark.parametrize("stack_of", [(1, 2, 3) * 3, (1, 2) * 3, (1, 1, 2, 2, 1, 1, 2, 2)])
def test_stacks_between_each_other_are_packages_of_one_volume(stack_of: tuple[int, ...]) -> None:
    done = sort([packages(*stack_of)])
    assert names(done) == [""]
    assert len(done.stacks[0].planes) == len(stack_of)
    assert done.stacks[0].affine[2, 2] == pytest.approx(2.5)


def test_stacks_behind_each_other_stay_stacks() -> None:
    done = sort([packages(1, 1, 1, 2, 2, 2)])
    assert names(done) == ["stack-1", "stack-2"]


def test_stacks_that_make_no_grid_together_stay_stacks() -> None:
    dataset = packages(1, 2, 1, 2, 1, 2)
    for group in dataset.PerFrameFunctionalGroupsSequence[1::2]:
        place = group.PlanePositionSequence[0]
        place.ImagePositionPatient = [
            *place.ImagePositionPatient[:2],
            place.ImagePositionPatient[2] + 0.7,
        ]
    done = sort([dataset])
    assert names(done) == ["stack-1", "stack-2"]
    assert {float(stack.affine[2, 2]) for stack in done.stacks} == {5.0}


def test_stack_ids_that_number_the_frames_mean_nothing() -> None:
    dataset = build.enhanced(build.pixels((4, 8, 6)))
    for k, group in enumerate(dataset.PerFrameFunctionalGroupsSequence):
        group.FrameContentSequence[0].StackID = str(k)
    assert names(sort([dataset])) == [""]


def test_frames_are_ordered_by_place_and_split_by_their_groups() -> None:
    dataset = build.enhanced(build.pixels((6, 8, 6)), order=[4, 2, 0, 1, 3, 5])
    for k, group in enumerate(dataset.PerFrameFunctionalGroupsSequence):
        index = group.FrameContentSequence[0].InStackPositionNumber - 1
        group.PlanePositionSequence[0].ImagePositionPatient = [0, 0, 5 * (index // 2)]
        diffusion = Dataset()
        diffusion.DiffusionBValue = [0.0, 500.0][index % 2]
        group.MRDiffusionSequence = [diffusion]
        assert k == dataset.PerFrameFunctionalGroupsSequence.index(group)
    done = sort([dataset])
    assert names(done) == ["b-0", "b-500"]
    assert [plane.frame for plane in done.stacks[0].planes] == [2, 1, 0]
    assert [plane.frame for plane in done.stacks[1].planes] == [3, 4, 5]


def test_a_legacy_converted_file_keeps_its_echoes_apart() -> None:
    dataset = build.enhanced(build.pixels((6, 8, 6)))
    dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.4.4"
    for k, group in enumerate(dataset.PerFrameFunctionalGroupsSequence):
        group.PlanePositionSequence[0].ImagePositionPatient = [0, 0, 2 * (k % 3)]
        unassigned = Dataset()
        unassigned.EchoTime = "11" if k < 3 else "22"
        group.UnassignedPerFrameConvertedAttributesSequence = [unassigned]
        del group.FrameContentSequence
    done = sort([dataset])
    assert names(done) == ["echo-1", "echo-2"]
    assert [plane.frame for plane in done.stacks[1].planes] == [3, 4, 5]
