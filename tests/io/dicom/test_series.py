"""What belongs to one volume: jitter, slabs, rounded positions, time, numbers, declared counts."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.config import IGNORE
from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset

from medseg_nca.io.dicom.records import Stack
from medseg_nca.io.dicom.series.instances import read_instance
from medseg_nca.io.dicom.series.stacks import Sorted, sort_planes
from tests.io.dicom import build

Change = Callable[[Dataset, int, int], None]


def sort(datasets: Sequence[Dataset]) -> Sorted:
    """In any order of files."""
    shuffled = random.Random(2).sample(list(datasets), len(datasets))
    return sort_planes([read_instance(Path(f"{k:03d}"), d) for k, d in enumerate(shuffled)])


def serial(
    volumes: int, count: int = 4, change: Change | None = None, **tags: Any
) -> list[Dataset]:
    """Volumes at the same positions, numbered one after the other; ``change(slice, v, z)``."""
    tags = {"modality": "MR", "AcquisitionNumber": None, "AcquisitionTime": None} | tags
    unclear = {"AcquisitionDate": None, "ContentDate": None, "ContentTime": None}
    found = []
    for volume in range(volumes):
        made = build.classic(build.pixels((count, 8, 6), seed=volume), **unclear | tags)
        for z, dataset in enumerate(made):
            dataset.SOPInstanceUID = build.uid("serial", volume, z)
            dataset.InstanceNumber = volume * count + z + 1
            if change is not None:
                change(dataset, volume, z)
            found.append(dataset)
    return found


def names(done: Sorted) -> list[str]:
    assert not done.problems, done.problems
    return [stack.name for stack in done.stacks]


def numbers(stack: Stack) -> list[int | None]:
    return [plane.instance_number for plane in stack.planes]


def kinds(done: Sorted) -> list[str]:
    return [problem.kind for problem in done.problems]


def assert_whole(done: Sorted, volumes: int, count: int = 4) -> None:
    assert not done.problems, done.problems
    assert [len(stack.planes) for stack in done.stacks] == [count] * volumes
    assert {round(float(stack.affine[2, 2]), 6) for stack in done.stacks} == {2.5}


JITTER = [
    ("EchoTime", 30.0, 30.0000991821289),
    ("EchoTime", 4.6, 4.6004),
    ("InversionTime", 900.0, 900.00006),
    ("FlipAngle", 12.0, 12.0000001),
    ("DiffusionBValue", 1000.0, 999.99),
    ("KVP", 120.0, 120.001),
    ("SliceThickness", 2.5, 2.50001),
]


@pytest.mark.parametrize(("keyword", "usual", "off"), JITTER)
@pytest.mark.parametrize("wrong", [1, 5])
def test_a_setting_in_other_digits_is_no_other_setting(
    keyword: str, usual: float, off: float, wrong: int
) -> None:
    def change(dataset: Dataset, volume: int, z: int) -> None:
        dataset.TemporalPositionIdentifier = volume + 1
        is_off = volume * 4 + z in range(6, 6 + wrong)
        text = f"{off if is_off else usual:.16g}"[:16]
        setattr(dataset, keyword, float(text) if keyword == "DiffusionBValue" else text)

    done = sort(serial(3, change=change))
    assert names(done) == ["time-1", "time-2", "time-3"]
    assert_whole(done, 3)


@pytest.mark.parametrize(
    ("keyword", "usual", "other"),
    [
        ("EchoTime", "30", "33"),
        ("EchoNumbers", 1, 2),
        ("ImageType", ["ORIGINAL", "PRIMARY", "M"], ["ORIGINAL", "PRIMARY", "M", "NORM"]),
    ],
)
def test_one_slice_of_another_kind_is_no_volume(keyword: str, usual: Any, other: Any) -> None:
    """A slip that is larger than any rounding, at one position of four."""

    def change(dataset: Dataset, volume: int, z: int) -> None:
        dataset.TemporalPositionIdentifier = volume + 1
        setattr(dataset, keyword, other if (volume, z) == (1, 2) else usual)

    done = sort(serial(3, change=change))
    assert names(done) == ["time-1", "time-2", "time-3"]
    assert_whole(done, 3)


@pytest.mark.parametrize(("first", "second"), [(30.0, 30.02), (4.6, 4.61)])
def test_echoes_that_lie_near_to_each_other_stay_echoes(first: float, second: float) -> None:
    def change(dataset: Dataset, volume: int, z: int) -> None:
        dataset.EchoTime = str((first, second)[volume])

    assert names(sort(serial(2, change=change))) == ["echo-1", "echo-2"]


@pytest.mark.parametrize(
    ("keyword", "pairs"),
    [
        ("EchoTime", ((4.6, 4.603), (9.2, 9.203))),
        ("InversionTime", ((2500, 2500.4), (2900, 2900.4))),
        ("DiffusionBValue", ((995.0, 1000.0), (1995.0, 2000.0))),
    ],
)
def test_settings_that_change_a_little_from_slice_to_slice_tear_no_volume(
    keyword: str, pairs: tuple[tuple[float, float], ...]
) -> None:
    """Every second slice of two volumes, and of one, has a little more."""

    def change(dataset: Dataset, volume: int, z: int) -> None:
        value = pairs[volume][z % 2]
        setattr(dataset, keyword, value if keyword == "DiffusionBValue" else f"{value:g}")

    for volumes in (1, 2):
        assert_whole(sort(serial(volumes, change=change)), volumes)


def test_a_setting_that_jitters_in_one_volume_of_a_series_tears_none() -> None:
    def change(dataset: Dataset, volume: int, z: int) -> None:
        dataset.TemporalPositionIdentifier = volume + 1
        dataset.EchoTime = "30.01" if volume == 1 and z != 2 else "30"

    done = sort(serial(3, change=change))
    assert names(done) == ["time-1", "time-2", "time-3"]
    assert_whole(done, 3)


def test_directions_with_other_digits_are_one() -> None:
    vectors = ([0.70711, 0.70711, 0.0], [0.0, 0.6, 0.8])

    def change(dataset: Dataset, volume: int, z: int) -> None:
        dataset.DiffusionBValue = 1000.0
        x, y, w = vectors[volume]
        dataset.DiffusionGradientOrientation = [x - z * 4e-5, y + z * 4e-5, w]

    done = sort(serial(2, change=change))
    assert names(done) == ["direction-1", "direction-2"]
    assert_whole(done, 2)


def test_trigger_times_that_jitter_are_ranked() -> None:
    def change(dataset: Dataset, volume: int, z: int) -> None:
        dataset.TriggerTime = f"{volume * 40 + (0.00004 if (volume, z) == (1, 2) else 0):.9g}"

    done = sort(serial(3, change=change))
    assert names(done) == ["time-1", "time-2", "time-3"]
    assert_whole(done, 3)


# Slices, and what lies between them.


def between(half: float = 0.5, *, slabs: int = 5, **tags: Any) -> list[Dataset]:
    """Five slices of 5 mm at 0, 5, ...; others half a slice beside them."""
    slices = build.classic(build.pixels((5, 8, 6)), build.affine((0.9, 0.9, 5.0)))
    moved = build.affine((0.9, 0.9, 5.0), origin=(-40.0, -30.0, 100 + 5 * half))
    others = build.classic(build.pixels((slabs, 8, 6), seed=3), moved, **tags)
    for k, dataset in enumerate(others):
        dataset.SOPInstanceUID = build.uid("between", k)
        dataset.InstanceNumber = 100 + k
    return [*slices, *others]


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        (
            {"ImageType": ["DERIVED", "SECONDARY", "MIP"]},
            ["type-derived-secondary-mip", "type-original-primary-axial"],
        ),
        ({"SliceThickness": "10"}, ["thickness-5", "thickness-10"]),
        ({"ConvolutionKernel": "B60f"}, ["kernel-0", "kernel-b60f"]),
        ({"KVP": "80"}, ["kv-80", "kv-120"]),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "AXIAL", "AVERAGE"], "slabs": 3}, None),
    ],
)
@pytest.mark.parametrize("half", [0.5, 0.3])
def test_slabs_between_slices_are_another_volume(
    tags: dict[str, Any], expected: list[str] | None, half: float
) -> None:
    done = sort(between(half, **tags))
    if expected is not None:
        assert names(done) == expected
    assert len(done.stacks) == 2
    for stack in done.stacks:
        assert stack.affine[2, 2] == pytest.approx(5.0)
        assert len({plane.keys["type"] for plane in stack.planes}) == 1


def test_one_slab_beside_a_volume_is_set_apart() -> None:
    done = sort(between(0.5, slabs=1, ImageType=["DERIVED", "SECONDARY", "MIP"]))
    assert sorted(len(stack.planes) for stack in done.stacks) == [1, 5]


def test_a_volume_of_which_some_slices_are_derived_stays_one() -> None:
    """They fill its gaps: neither part is regular, the whole is."""
    made = build.classic(build.pixels((6, 8, 6)))
    for k in (2, 3, 5):
        made[k].ImageType = ["DERIVED", "PRIMARY", "AXIAL"]
    assert names(sort(made)) == [""]


@pytest.mark.parametrize("other", [(1, 2), (1, 4), (1, 3, 5), (0, 5)])
def test_slices_that_say_another_thickness_stay_in_their_volume(other: tuple[int, ...]) -> None:
    made = build.classic(build.pixels((6, 8, 6)))
    for k in other:
        made[k].SliceThickness = "2.499" if len(other) == 3 else "3"
    assert names(sort(made)) == [""]


def test_a_gap_is_no_reason_to_split() -> None:
    made = build.classic(build.pixels((5, 8, 6)))
    made[0].SliceThickness = made[4].SliceThickness = "5"
    del made[2]
    assert kinds(sort(made)) == ["missing-slices"]


def test_odd_and_even_acquisitions_are_one_volume() -> None:
    made = build.classic(build.pixels((8, 8, 6)), modality="MR")
    for k, dataset in enumerate(made):
        dataset.AcquisitionNumber = 1 + k % 2
        dataset.AcquisitionTime = f"1011{k % 2}0"
    assert names(sort(made)) == [""]


def test_parts_that_follow_each_other_are_one_volume() -> None:
    made = build.classic(build.pixels((8, 8, 6)))
    for dataset in made[4:]:
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL", "LATE"]
        dataset.KVP = "100"
    assert names(sort(made)) == [""]


# Positions with few decimals.


def rounded(spacing: float, decimals: int, count: int = 40, **how: Any) -> list[Dataset]:
    affine = build.affine((0.7, 0.7, spacing), **how)
    made = build.classic(build.pixels((count, 8, 6)), affine, SliceThickness=None)
    for k, dataset in enumerate(made):
        values = build.position(affine, k)
        dataset.ImagePositionPatient = [f"{value:.{decimals}f}" for value in values]
    return made


@pytest.mark.parametrize("spacing", [0.625, 0.75, 1.25, 2.47, 0.5])
@pytest.mark.parametrize("degrees", [(0.0, 0.0, 0.0), (20.0, -10.0, 5.0)])
def test_positions_rounded_to_a_tenth_make_a_volume(
    spacing: float, degrees: tuple[float, float, float]
) -> None:
    if spacing < 0.7 and any(degrees):
        spacing *= 2  # the roundings of three coordinates exceed a tenth of the spacing
    (stack,) = sort(rounded(spacing, 1, degrees=degrees)).stacks
    assert len(stack.planes) == 40
    found = float(np.linalg.norm(stack.affine[:3, 2]))
    assert found == pytest.approx(spacing, abs=0.1 * np.sqrt(3) / 39)


def test_the_declared_spacing_is_taken_where_it_fits_the_rounded_positions() -> None:
    made = rounded(0.625, 1)
    for declared, expected in (("0.625", 0.625), ("0.6", 24.4 / 39)):
        for dataset in made:
            dataset.SliceThickness = declared
        (stack,) = sort(made).stacks
        assert stack.affine[2, 2] == pytest.approx(expected, abs=1e-9)


def test_tenths_that_were_single_floats() -> None:
    made = rounded(0.625, 1)
    for dataset in made:
        values = [f"{np.float32(v):.10f}" for v in dataset.ImagePositionPatient]
        dataset.ImagePositionPatient = values
    assert names(sort(made)) == [""]


@pytest.mark.parametrize("off", [0.1, 0.2, -0.1])
def test_a_plane_that_rounding_does_not_explain_is_refused(off: float) -> None:
    made = rounded(1.0, 1)
    x, y, z = made[20].ImagePositionPatient
    made[20].ImagePositionPatient = [x, y, f"{float(z) + off:.1f}"]
    assert kinds(sort(made)) == (["uneven-slices"] if abs(off) > 0.1 else [])
    # Of three decimals no rounding is that large.
    for dataset in made:
        x, y, z = dataset.ImagePositionPatient
        dataset.ImagePositionPatient = [x, y, f"{float(z) + 0.003 * (dataset is made[0]):.3f}"]
    assert kinds(sort(made)) == ["uneven-slices"]


@pytest.mark.parametrize("missing", [1, 20, 38])
def test_a_missing_slice_among_rounded_ones_is_found(missing: int) -> None:
    made = rounded(0.625, 1)
    del made[missing]
    assert kinds(sort(made)) == ["missing-slices"]


def test_whole_millimetres_of_thin_slices_are_refused() -> None:
    done = sort(rounded(1.5, 0))
    assert len(done.problems) == 1
    assert not done.stacks


# Time.


def timed(first: dict[str, Any], second: dict[str, Any]) -> list[Dataset]:
    """Two volumes of which the one that was acquired later comes first in the files."""

    def change(dataset: Dataset, volume: int, z: int) -> None:
        for keyword, value in (second, first)[volume].items():
            vr = {"Date": "DA", "Time": "TM"}.get(keyword[-4:], "SH")
            vr = "DT" if keyword.endswith("DateTime") else vr
            dataset.add(DataElement(tag_for_keyword(keyword), vr, value, validation_mode=IGNORE))

    return serial(2, change=change)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (
            {"AcquisitionDate": "20200101", "AcquisitionTime": "235958"},
            {"AcquisitionDate": "20200102", "AcquisitionTime": "000002"},
        ),
        (
            {"AcquisitionDateTime": "20201231235958.100"},
            {"AcquisitionDateTime": "20210101000002"},
        ),
        (
            {"ContentDate": "20200229", "ContentTime": "235959.99"},
            {"ContentDate": "20200301", "ContentTime": "000000"},
        ),
        # Without dates: the day goes on behind the longest break.
        ({"AcquisitionTime": "235958"}, {"AcquisitionTime": "000002"}),
        (
            {"AcquisitionDate": "00000000", "AcquisitionTime": "225958"},
            {"AcquisitionDate": "00000000", "AcquisitionTime": "013000"},
        ),
        # One file lost its date.
        (
            {"AcquisitionDate": "20200101", "AcquisitionTime": "235958"},
            {"AcquisitionTime": "000002"},
        ),
        # The clock went back while the scan went on.
        (
            {"AcquisitionDateTime": "20201025025500+0200"},
            {"AcquisitionDateTime": "20201025020500+0100"},
        ),
        (
            {
                "AcquisitionDate": "20201025", "AcquisitionTime": "025500",
                "TimezoneOffsetFromUTC": "+0200",
            },
            {
                "AcquisitionDate": "20201025", "AcquisitionTime": "020500",
                "TimezoneOffsetFromUTC": "+0100",
            },
        ),
        ({"AcquisitionTime": "101500.09"}, {"AcquisitionTime": "101500.1"}),
        # ACR-NEMA.
        (
            {"AcquisitionDate": "2020.01.01", "AcquisitionTime": "23:59:58"},
            {"AcquisitionDate": "2020.01.02", "AcquisitionTime": "00:00:02"},
        ),
    ],
)  # fmt: skip
def test_volumes_are_in_the_order_of_their_moments(
    first: dict[str, Any], second: dict[str, Any]
) -> None:
    done = sort(timed(first, second))
    assert names(done) == ["time-1", "time-2"]
    assert numbers(done.stacks[0]) == [5, 6, 7, 8]


def test_a_date_that_was_written_once_for_all_does_not_mix_volumes() -> None:
    """The third slice of the first volume is of the next day, and says it is of the first."""

    def change(dataset: Dataset, volume: int, z: int) -> None:
        second = (86_394 + 20 * volume + 3 * z) % 86_400
        dataset.AcquisitionDate = "20200102"
        dataset.AcquisitionTime = f"{second // 3600:02}{second // 60 % 60:02}{second % 60:02}"

    done = sort(serial(2, change=change))
    assert names(done) == ["time-1", "time-2"]
    assert [numbers(stack) for stack in done.stacks] == [[1, 2, 3, 4], [5, 6, 7, 8]]


@pytest.mark.parametrize("days", [("20200102", "20200102"), ("20200102", "20200103")])
def test_a_pause_of_hours_or_a_night_keeps_the_order(days: tuple[str, str]) -> None:
    def change(dataset: Dataset, volume: int, z: int) -> None:
        dataset.AcquisitionDate = days[volume]
        hour = 8 if volume == 0 else 19 if days[0] == days[1] else 7
        dataset.AcquisitionTime = f"{hour:02}00{z:02}"

    done = sort(serial(2, change=change))
    assert [numbers(stack)[0] for stack in done.stacks] == [1, 5]


def test_slices_acquired_over_midnight_are_ranked() -> None:
    moments = ["235955", "235957", "235959", "000001", "000003", "000005", "000007", "000009"]

    def change(dataset: Dataset, volume: int, z: int) -> None:
        k = volume * 4 + z
        dataset.AcquisitionTime = moments[k]
        dataset.AcquisitionDate = "20200101" if k < 3 else "20200102"

    done = sort(serial(2, change=change))
    assert names(done) == ["time-1", "time-2"]
    assert numbers(done.stacks[0]) == [1, 2, 3, 4]


# No public key.


def by_volume(volume: int, z: int) -> int:
    return volume * 4 + z + 1


def backwards(volume: int, z: int) -> int:
    return 100 + volume * 4 - z


def by_slice(volume: int, z: int) -> int:
    return z * 3 + volume + 1


def odd_then_even(volume: int, z: int) -> int:
    return volume * 10 + (1, 3, 2, 4)[z]


@pytest.mark.parametrize("number", [by_volume, backwards, by_slice, odd_then_even])
def test_volumes_that_only_the_number_tells_apart(number: Callable[[int, int], int]) -> None:
    def change(dataset: Dataset, volume: int, z: int) -> None:
        dataset.InstanceNumber = number(volume, z)

    done = sort(serial(3, change=change))
    assert names(done) == ["volume-1", "volume-2", "volume-3"]
    for volume, stack in enumerate(done.stacks):
        assert numbers(stack) == [number(volume, z) for z in range(4)]
    assert [note.kind for note in done.notes] == ["by-number"]


def at_random(volume: int, z: int) -> int:
    return (7, 3, 12, 1, 9, 2, 11, 5, 8, 4, 10, 6)[volume * 4 + z]


def in_another_order(volume: int, z: int) -> int:
    return volume * 4 + (z if volume != 1 else (2, 0, 3, 1)[z]) + 1


def the_same(volume: int, z: int) -> int:
    return z + 1


@pytest.mark.parametrize("number", [at_random, in_another_order, the_same])
def test_numbers_without_an_order_tell_nothing(number: Callable[[int, int], int]) -> None:
    def change(dataset: Dataset, volume: int, z: int) -> None:
        dataset.InstanceNumber = number(volume, z)

    assert kinds(sort(serial(3, change=change))) == ["repeated-positions"]


def test_a_slice_that_is_missing_from_numbered_volumes_is_no_guess() -> None:
    made = serial(3)
    del made[5]
    assert kinds(sort(made)) == ["repeated-positions"]


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
