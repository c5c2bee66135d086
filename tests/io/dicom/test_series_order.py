"""The order of the volumes of a series, by moments and by numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pydicom.config import IGNORE
from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset

from medseg_nca.io.dicom.records import Stack
from tests.io.dicom.slices import kinds, names, serial, sort, the_same


def numbers(stack: Stack) -> list[int | None]:
    return [plane.instance_number for plane in stack.planes]


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


@pytest.mark.parametrize("number", [at_random, in_another_order, the_same])
def test_numbers_without_an_order_tell_nothing(number: Callable[[int, int], int]) -> None:
    def change(dataset: Dataset, volume: int, z: int) -> None:
        dataset.InstanceNumber = number(volume, z)

    assert kinds(sort(serial(3, change=change))) == ["repeated-positions"]


def test_a_slice_that_is_missing_from_numbered_volumes_is_no_guess() -> None:
    made = serial(3)
    del made[5]
    assert kinds(sort(made)) == ["repeated-positions"]
