"""Order, regularity and affine of planes, by numbers worked out by hand and by properties."""

from __future__ import annotations

import random
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medseg_nca.io.dicom.problems import DicomError
from medseg_nca.io.dicom.records import Plane
from medseg_nca.io.dicom.series.geometry import (
    build_stack,
    orientation_groups,
    orientation_name,
    picture,
    tolerance,
)
from medseg_nca.io.dicom.series.values import Values
from tests.io.dicom import build


def planes_of(affine: np.ndarray, count: int = 5, shape: tuple[int, int] = (8, 6)) -> list[Plane]:
    cosines = tuple(build.orientation(affine).tolist())
    between = np.linalg.norm(affine[:3, [1, 0]], axis=0)
    return [
        Plane(
            path=Path(f"{k}.dcm"),
            frame=None,
            sop_instance_uid=f"1.{k}",
            position=tuple(build.position(affine, k).tolist()),
            row=cosines[:3],
            column=cosines[3:],
            spacing=(float(between[0]), float(between[1])),
            shape=shape,
        )
        for k in range(count)
    ]


def moved(plane: Plane, x: float = 0.0, y: float = 0.0, z: float = 0.0) -> Plane:
    a, b, c = plane.position or (0.0, 0.0, 0.0)
    return replace(plane, position=(a + x, b + y, c + z))


def refusal(planes: list[Plane]) -> DicomError:
    with pytest.raises(DicomError) as caught:
        build_stack("", planes)
    return caught.value


def test_an_axial_stack_by_hand() -> None:
    stack = build_stack("", planes_of(build.AXIAL))
    assert stack.shape == (6, 8, 5)
    # LPS (-40, -30, 100) is the first column of the first row; y starts at the last of 8 rows.
    expected = [[-0.9, 0, 0, 40], [0, 0.9, 0, 30 - 7 * 0.9], [0, 0, 2.5, 100], [0, 0, 0, 1]]
    np.testing.assert_allclose(stack.affine, expected, atol=1e-9)
    assert not np.signbit(stack.affine[stack.affine == 0]).any()
    assert stack.shear_mm == 0


def test_slices_are_ordered_by_place_along_the_normal() -> None:
    planes = planes_of(build.OBLIQUE)
    shuffled = random.Random(3).sample(planes, len(planes))
    assert build_stack("", shuffled).planes == tuple(planes)
    downwards = planes_of(build.OBLIQUE * np.array([1, 1, -1, 1.0]))
    assert build_stack("", downwards).planes == tuple(reversed(downwards))


@given(
    degrees=st.tuples(*[st.floats(-180, 180)] * 3),
    spacing=st.tuples(*[st.floats(0.2, 6)] * 3),
    seed=st.integers(0, 9),
    forwards=st.booleans(),
)
def test_the_affine_gives_each_plane_its_place(
    degrees: tuple[float, float, float],
    spacing: tuple[float, float, float],
    seed: int,
    forwards: bool,
) -> None:
    affine = build.affine(spacing, degrees=degrees)
    affine[:3, 2] *= 1 if forwards else -1
    planes = planes_of(affine)
    random.Random(seed).shuffle(planes)
    stack = build_stack("", planes)
    for k, plane in enumerate(stack.planes):
        # Row 0, column 0 of a plane is the last y.
        found = stack.affine @ [0, stack.shape[1] - 1, k, 1]
        np.testing.assert_allclose(found[:3] * [-1, -1, 1], plane.position, atol=1e-6)
    assert np.linalg.det(stack.affine[:3, :3]) < 0  # as dcm2niix: x and y run to R and A


def test_a_missing_slice_is_named_with_its_gap() -> None:
    planes = planes_of(build.AXIAL)
    del planes[2]
    error = refusal(planes)
    assert error.problem.kind == "missing-slices"
    for text in ("1 of 5", "2.5 mm apart", "5 mm between", "(-40, -30, 102.5)", "107.5)"):
        assert text in error.problem.message


@pytest.mark.parametrize("index", [1, 3])
def test_a_missing_second_slice_is_missed_too(index: int) -> None:
    planes = planes_of(build.OBLIQUE, count=5)
    del planes[index]
    assert refusal(planes).problem.kind == "missing-slices"


def test_one_missing_slice_of_many_is_found() -> None:
    planes = planes_of(build.affine((0.7, 0.7, 0.625)), count=400)
    del planes[398]
    assert refusal(planes).problem.kind == "missing-slices"


def test_an_uneven_slice_is_named() -> None:
    planes = planes_of(build.AXIAL)
    planes[3] = moved(planes[3], z=0.4)
    error = refusal(planes)
    assert error.problem.kind == "uneven-slices"
    assert "2.9 mm between (-40, -30, 105) and (-40, -30, 107.9)" in error.problem.message
    assert "0.025 mm are allowed" in error.problem.message


def test_positions_rounded_to_two_digits_are_even() -> None:
    planes = planes_of(build.affine((0.7, 0.7, 0.625)), count=200)
    rounded = [replace(p, position=tuple(round(v, 2) for v in p.position or ())) for p in planes]
    stack = build_stack("", rounded)
    assert stack.affine[2, 2] == pytest.approx(0.625, abs=1e-4)


def test_the_tolerance_is_a_hundredth_of_the_spacing_or_of_a_millimetre() -> None:
    assert tolerance(5.0) == pytest.approx(0.05)
    assert tolerance(0.5) == pytest.approx(0.01)
    assert tolerance(0.02) == pytest.approx(0.002)


def test_a_plane_beside_the_line_is_refused() -> None:
    planes = planes_of(build.AXIAL)
    planes[2] = moved(planes[2], x=3.0)
    error = refusal(planes)
    assert error.problem.kind == "shifted-planes"
    assert "(-37, -30, 105) is 3 mm beside" in error.problem.message


def test_gantry_tilt_is_measured_and_kept_in_the_affine() -> None:
    affine = build.AXIAL.copy()
    affine[1, 2] = 2.5 * np.tan(np.radians(20))
    stack = build_stack("", planes_of(affine))
    assert stack.shear_mm == pytest.approx(2.5 * np.tan(np.radians(20)))
    np.testing.assert_allclose(stack.affine[:3, 2], [0, -affine[1, 2], 2.5], atol=1e-9)


def test_a_drift_below_a_quarter_of_a_pixel_is_no_tilt() -> None:
    affine = build.AXIAL.copy()
    affine[1, 2] = 0.05  # 0.2 mm over the stack, a pixel is 0.9 mm
    stack = build_stack("", planes_of(affine))
    assert stack.shear_mm == 0
    np.testing.assert_allclose(stack.affine[:3, 2], [0, 0, 2.5], atol=1e-9)


def test_more_tilt_than_a_gantry_has_is_refused() -> None:
    affine = build.AXIAL.copy()
    affine[1, 2] = 4.0
    assert refusal(planes_of(affine)).problem.kind == "shifted-planes"


def test_orientations_within_the_tolerance_are_one_and_averaged() -> None:
    planes = planes_of(build.AXIAL)
    planes[1] = replace(planes[1], row=(1.0, 8e-5, 0.0))
    assert len(orientation_groups(planes)) == 1
    stack = build_stack("", planes)
    x = stack.affine[:3, 0] / 0.9
    assert np.linalg.norm(x) == pytest.approx(1, abs=1e-12)
    assert x[1] == pytest.approx(-8e-5 / 5, rel=1e-3)
    assert abs(x @ stack.affine[:3, 1]) < 1e-12
    planes[1] = replace(planes[1], row=(1.0, 2e-4, 0.0))
    assert [len(group) for group in orientation_groups(planes)] == [4, 1]


@pytest.mark.parametrize(
    ("degrees", "name"),
    [
        ((0, 0, 30), "axial"),
        ((90, 0, 0), "coronal"),
        ((0, 90, 0), "sagittal"),
        ((10, 0, 0), "oblique axial"),
    ],
)
def test_orientations_have_names(degrees: tuple[float, float, float], name: str) -> None:
    assert orientation_name(planes_of(build.affine(degrees=degrees))[0]) == name


def test_a_single_plane_is_as_thick_as_it_says() -> None:
    plane = planes_of(build.OBLIQUE, count=1)[0]
    stack = build_stack("", [replace(plane, thickness=4.0)])
    assert stack.shape == (6, 8, 1)
    assert np.linalg.norm(stack.affine[:3, 2]) == pytest.approx(4.0)
    assert np.linalg.norm(build_stack("", [plane]).affine[:3, 2]) == pytest.approx(1.0)


def test_a_picture_lies_as_a_png() -> None:
    plane = replace(planes_of(build.AXIAL, count=1)[0], position=None, row=None, column=None)
    stack = picture("", replace(plane, spacing=(0.2, 0.3)))
    assert stack.shape == (6, 8)
    np.testing.assert_array_equal(stack.affine, np.diag([0.3, 0.2, 1, 1]))


def test_many_orientations_take_little_time() -> None:
    angles = np.linspace(0, np.pi, 20_000)
    planes = [
        replace(plane, row=(float(np.cos(a)), float(np.sin(a)), 0.0), column=(0.0, 0.0, -1.0))
        for a, plane in zip(angles, planes_of(build.AXIAL, 20_000), strict=True)
    ]
    started = time.process_time()
    assert len(orientation_groups(planes)) > 1000
    assert time.process_time() - started < 20


def test_many_directions_take_little_time() -> None:
    """Each plane has its own, as jitter makes them."""
    vectors = np.random.default_rng(0).normal(size=(4000, 3)).round(3)
    keys = [{"direction": "\\".join(map(str, vector))} for vector in vectors.tolist()]
    planes = planes_of(build.AXIAL, 4)
    many = [replace(planes[k % 4], keys=one) for k, one in enumerate(keys)]
    started = time.process_time()
    values = Values(many)
    assert time.process_time() - started < 15
    assert len({values.of(plane, "direction") for plane in many}) > 3900
