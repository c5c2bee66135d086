"""RT Structure Sets onto the grid of an image: contours and what they enclose."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from medseg_nca.io.dicom.annotations.rtstruct import read_rtstruct
from medseg_nca.io.volume import Volume
from tests.io.dicom.build import OBLIQUE, affine, classic, pixels
from tests.io.dicom.contours import (
    IMAGE,
    SERIES,
    SQUARE,
    contour,
    drawn,
    kinds,
    read,
    refused,
    save,
    structures,
)
from tests.io.dicom.on_image import image_of, points_lps


def circle(x: float, y: float, radius_mm: float, z: float) -> NDArray[np.float64]:
    """A true circle in the plane of a slice, LPS mm."""
    angle = np.arange(360) * np.pi / 180
    across = np.column_stack(
        [np.cos(angle) / IMAGE.spacing[0], np.sin(angle) / IMAGE.spacing[1], angle * 0]
    )
    return points_lps(IMAGE, np.array([(x, y, z)]) + radius_mm * across)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_a_square_on_an_oblique_slice(syntax: str, tmp_path: Path) -> None:
    path = save(structures([drawn(SQUARE, 2), drawn(SQUARE, 3)]), tmp_path, syntax)
    result = read_rtstruct(path, IMAGE)
    (segment,) = result
    expected = np.zeros(IMAGE.shape, bool)
    expected[5:15, 5:10, 2:4] = True
    assert (segment.mask == expected).all()
    assert (segment.number, segment.name, segment.algorithm) == (1, "roi 1", "MANUAL")
    assert segment.code is None
    assert result.notes == ()


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_contours_of_many_points(syntax: str, tmp_path: Path) -> None:
    """Long sequences of defined length are no bulk, with or without VRs."""
    side = np.linspace(0, 1, 300)[:, None]
    corners = np.array([*SQUARE, SQUARE[0]])
    dense = np.concatenate([a + side * (b - a) for a, b in pairwise(corners)])
    rois = [[drawn(dense.tolist(), 2)] for _ in range(20)]
    path = save(structures(*rois), tmp_path, syntax)
    assert path.stat().st_size > 500_000
    assert [segment.voxels for segment in read_rtstruct(path, IMAGE)] == [50] * 20


def distance_mm(x: float, y: float) -> NDArray[np.float64]:
    i, j = np.indices(IMAGE.shape[:2])
    return np.hypot((i - x) * IMAGE.spacing[0], (j - y) * IMAGE.spacing[1])


def test_a_disc_and_rings_in_millimetres(tmp_path: Path) -> None:
    outer, hole = circle(18.3, 14.6, 9.1, 1), circle(18.3, 14.6, 4.2, 1)
    keyhole = np.concatenate([outer, outer[:1], hole[:1], hole[::-1], outer[:1]])
    disc, xor, key = read(
        tmp_path, [contour(outer)], [contour(outer), contour(hole)], [contour(keyhole)]
    )
    far = distance_mm(18.3, 14.6)
    assert np.abs(far - 9.1).min() > 1e-3 < np.abs(far - 4.2).min()
    assert (disc.mask[..., 1] == (far < 9.1)).all()
    assert (xor.mask[..., 1] == ((far < 9.1) & (far > 4.2))).all()
    assert (key.mask == xor.mask).all()
    assert disc.voxels == (far < 9.1).sum()
    area = disc.voxels * IMAGE.spacing[0] * IMAGE.spacing[1]
    assert area == pytest.approx(np.pi * 9.1**2, rel=0.02)


def test_the_volume_of_a_ball(tmp_path: Path) -> None:
    lps = affine((0.8, 0.8, 1.0), (5, 6, 7), (30, 20, 10))
    image = image_of(classic(pixels((30, 40, 40)), lps), lps)
    contours = []
    for z in range(30):
        radius = np.sqrt(max(12.0**2 - (z - 14.7) ** 2, 0))
        if radius:
            angle = np.arange(360) * np.pi / 180
            x, y = 19.4 + radius / 0.8 * np.cos(angle), 20.2 + radius / 0.8 * np.sin(angle)
            contours.append(drawn(list(zip(x, y, strict=True)), z, image))
    (ball,) = read(tmp_path, contours, image=image)
    volume = ball.voxels * 0.8 * 0.8
    assert volume == pytest.approx(4 / 3 * np.pi * 12**3, rel=0.01)
    centre = np.argwhere(ball.mask).mean(axis=0)
    assert centre == pytest.approx([19.4, 20.2, 14.7], abs=0.05)


def test_the_array_order_of_the_image_does_not_matter(tmp_path: Path) -> None:
    path = save(structures([drawn(SQUARE, 2)]), tmp_path)
    (known,) = read_rtstruct(path, IMAGE)
    turn = np.eye(4)[:, [1, 0, 2, 3]]  # x and y change places, then x is mirrored
    turn[:, 3] += turn[:, 0] * (IMAGE.shape[1] - 1)
    turn[:, 0] *= -1
    array = IMAGE.array.transpose(0, 2, 1, 3)
    turned = Volume(array, IMAGE.affine @ turn, (), IMAGE.header)
    (segment,) = read_rtstruct(path, turned)
    assert (segment.mask == known.mask.transpose(1, 0, 2)[::-1]).all()


def test_a_2d_image(tmp_path: Path) -> None:
    one = image_of(SERIES[:1], OBLIQUE)
    flat = Volume(one.array[..., 0], one.affine, one.sources, one.header)
    (segment,) = read(tmp_path, [drawn(SQUARE, 0)], image=flat)
    assert segment.shape == (40, 30)
    assert segment.mask[5:15, 5:10].all()
    assert segment.voxels == 50


def test_a_contour_belongs_to_the_nearest_slice(tmp_path: Path) -> None:
    result = read(tmp_path, [drawn(SQUARE, 1.95), drawn(SQUARE, 3.3)])
    assert np.flatnonzero(result.segments[0].mask.any(axis=(0, 1))).tolist() == [2, 3]
    assert kinds(result) == ["off-slice"]
    assert "ROI 1: 1 contours" in result.notes[0].message


def test_half_way_is_not_left_to_rounding(tmp_path: Path) -> None:
    result = read(tmp_path, [drawn(SQUARE, z + 0.5) for z in range(4)])
    assert np.flatnonzero(result.segments[0].mask.any(axis=(0, 1))).tolist() == [1, 2, 3, 4]


def test_contours_finer_than_slices_do_not_cancel(tmp_path: Path) -> None:
    result = read(tmp_path, [drawn(SQUARE, z) for z in (1.7, 2.02, 2.3)])
    assert result.segments[0].voxels == 50
    assert kinds(result) == ["between-slices"]
    assert " 2 contours" in result.notes[0].message


def test_slices_between_contours_stay_empty_and_are_told(tmp_path: Path) -> None:
    result = read(tmp_path, [drawn(SQUARE, 0), drawn(SQUARE, 3)])
    assert np.flatnonzero(result.segments[0].mask.any(axis=(0, 1))).tolist() == [0, 3]
    assert kinds(result) == ["slices-between-contours"]
    assert " 2 slices" in result.notes[0].message


def test_contours_beyond_the_image(tmp_path: Path) -> None:
    away = [(x + 100, y) for x, y in SQUARE]
    outside = [drawn(SQUARE, -0.6), drawn(SQUARE, 5.6), drawn(away, 2)]
    result = read(tmp_path, [*outside, drawn(SQUARE, 1)], outside)
    assert [segment.voxels for segment in result] == [50, 0]
    assert kinds(result) == ["outside-image"] * 2
    assert " 3 contours" in result.notes[0].message
    path = save(structures(outside), tmp_path)
    assert refused(path).problem.kind == "outside-image"


def test_contours_across_the_slices_are_left_out(tmp_path: Path) -> None:
    upright = points_lps(IMAGE, [(5, 5, 0), (15, 5, 0), (15, 5, 4), (5, 5, 4)])
    result = read(tmp_path, [contour(upright), drawn(SQUARE, 1)])
    assert result.segments[0].voxels == 50
    assert kinds(result) == ["not-in-slice"]
    path = save(structures([contour(upright)]), tmp_path)
    assert refused(path).problem.kind == "outside-image"
    assert "not-in-slice" in str(refused(path))


def test_only_closed_contours_have_an_area(tmp_path: Path) -> None:
    point = contour(points_lps(IMAGE, [(5, 5, 1)]), "POINT")
    line = drawn(SQUARE, 1, kind="OPEN_PLANAR")
    result = read(tmp_path, [point], [line, drawn(SQUARE, 1)], [])
    assert [segment.number for segment in result] == [2]
    assert result.segments[0].voxels == 50
    assert [(n.kind, n.message.split("ROI ")[1][0]) for n in result.notes] == [
        ("no-contours", "1"),
        ("not-closed", "1"),
        ("not-closed", "2"),
        ("no-contours", "3"),
    ]
    path = save(structures([point]), tmp_path)
    assert refused(path).problem.kind == "no-contours"


def test_a_contour_that_is_there_twice_does_not_cancel_itself(tmp_path: Path) -> None:
    result = read(tmp_path, [drawn(SQUARE, 1), drawn(SQUARE, 1)])
    assert result.segments[0].voxels == 50
    assert kinds(result) == ["repeated-contour"]


INNER = [(7.5, 5.5), (9.5, 5.5), (9.5, 7.5), (7.5, 7.5)]  # 2 x 2 voxels of the square
APART = [(12.5, 7.5), (18.5, 7.5), (18.5, 12.5), (12.5, 12.5)]  # 6 x 5, of which 2 x 2 are its


def test_contours_that_overlap_are_united_and_told(tmp_path: Path) -> None:
    result = read(tmp_path, [drawn(SQUARE, 1), drawn(APART, 1)])
    assert result.segments[0].voxels == 50 + 30 - 4
    assert kinds(result) == ["overlapping-contours"]
    assert "ROI 1: 1 contours overlap" in result.notes[0].message
    apart = read(tmp_path, [drawn(SQUARE, 1), drawn(APART, 2)])
    assert apart.segments[0].voxels == 80
    assert kinds(apart) == []


def test_a_contour_within_another_is_a_hole_in_it(tmp_path: Path) -> None:
    result = read(tmp_path, [drawn(INNER, 1), drawn(SQUARE, 1)], [drawn(INNER, 1)])
    assert [segment.voxels for segment in result] == [50 - 4, 4]
    assert kinds(result) == []


def test_closed_xor_contours(tmp_path: Path) -> None:
    def xor(*corners: Sequence[tuple[float, float]]) -> list[Dataset]:
        return [drawn(c, 1, kind="CLOSEDPLANAR_XOR") for c in corners]

    assert read(tmp_path, xor(SQUARE, INNER)).segments[0].voxels == 50 - 4
    assert read(tmp_path, xor(SQUARE, APART)).segments[0].voxels == 50 + 30 - 2 * 4
    mixed = read(tmp_path, [drawn(SQUARE, 1), *xor(INNER)])
    assert mixed.segments[0].voxels == 50 - 4


@pytest.mark.parametrize("kind", ["CLOSED_PLANAR", "CLOSEDPLANAR_XOR"])
@pytest.mark.parametrize("shift_mm", [(0.0, 0.0, 0.0), (0.01, 0.01, 0.0), (0.0, -0.01, 0.005)])
@pytest.mark.parametrize("way", [1, -1])
def test_a_copy_of_a_contour_cancels_nothing(
    kind: str, shift_mm: tuple[float, float, float], way: int, tmp_path: Path
) -> None:
    corners = points_lps(IMAGE, [(x, y, 1) for x, y in SQUARE])
    copy = np.roll(corners, 1, axis=0)[::way] + shift_mm
    result = read(tmp_path, [contour(corners, kind), contour(copy, kind)])
    assert result.segments[0].voxels == 50
    assert kinds(result) == ["repeated-contour"]


def test_a_contour_without_a_centre_in_it(tmp_path: Path) -> None:
    tiny = [(5.1, 5.1), (5.4, 5.1), (5.4, 5.4)]
    result = read(tmp_path, [drawn(tiny, 1)], [drawn(SQUARE, 1)])
    assert [segment.voxels for segment in result] == [0, 50]
    assert kinds(result) == ["empty-segment"]
