"""Which planes of a series make one volume, where headers say small differences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset

from tests.io.dicom import build
from tests.io.dicom.slices import assert_whole, kinds, names, serial, sort

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
