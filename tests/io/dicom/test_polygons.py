"""Polygons to masks: counted shapes, holes, edges, and agreement with other people's code."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from medseg_nca.io.dicom.annotations.polygons import ON_CONTOUR, contour_mask

SHAPE = (40, 30)


def box(x0: float, x1: float, y0: float, y1: float) -> NDArray[np.float64]:
    return np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])


def circle(x: float, y: float, radius: float, count: int = 720) -> NDArray[np.float64]:
    angle = np.arange(count) * 2 * np.pi / count
    return np.column_stack([x + radius * np.cos(angle), y + radius * np.sin(angle)])


def away(x: float, y: float) -> NDArray[np.float64]:
    i, j = np.indices(SHAPE)
    return np.hypot(i - x, j - y)


@pytest.mark.parametrize("turn", range(4))
@pytest.mark.parametrize("way", [1, -1])
def test_a_square_holds_the_centres_within_it(turn: int, way: int) -> None:
    square = np.roll(box(4.5, 14.5, 9.5, 12.5), turn, axis=0)[::way]
    mask = contour_mask([square], SHAPE)
    assert mask.sum() == 10 * 3
    assert mask[5:15, 10:13].all()


def test_a_centre_on_a_contour_is_inside() -> None:
    """Contours through the centres of a mask's outer voxels, as OpenCV draws them."""
    assert contour_mask([box(4, 14, 9, 12)], SHAPE).sum() == 11 * 4
    noisy = box(4, 14, 9, 12) + np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]]) * ON_CONTOUR / 2
    assert (contour_mask([noisy], SHAPE) == contour_mask([box(4, 14, 9, 12)], SHAPE)).all()
    beyond = box(4, 14, 9, 12) + np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]]) * ON_CONTOUR * 2
    assert contour_mask([beyond], SHAPE).sum() == 9 * 2
    diamond = np.array([(10, 5), (15, 10), (10, 15), (5, 10)])  # edges through centres
    i, j = np.indices(SHAPE)
    assert (contour_mask([diamond], SHAPE) == (abs(i - 10) + abs(j - 10) <= 5)).all()


def test_a_line_or_a_point_of_voxels() -> None:
    assert contour_mask([np.array([(3.0, 4), (8, 4), (3, 4)])], SHAPE).sum() == 6
    assert contour_mask([np.array([(3.0, 4), (3, 4), (3, 4)])], SHAPE).sum() == 1
    assert contour_mask([np.array([(3.0, 4.5), (8, 4.5), (3, 4.5)])], SHAPE).sum() == 0


def test_a_disc() -> None:
    distance = away(17.3, 14.6)
    mask = contour_mask([circle(17.3, 14.6, 10.25)], SHAPE)
    sure = np.abs(distance - 10.25) > 1e-3  # the polygon lies within 1e-4 of the circle
    assert sure.all()
    assert (mask == (distance < 10.25)).all()


def ring_of(hole: NDArray[np.float64], outer: NDArray[np.float64]) -> NDArray[np.float64]:
    """One contour: around the outer edge, along a seam to the hole, around it, and back."""
    return np.concatenate([outer, outer[:1], hole[::-1][-1:], hole[::-1], outer[:1]])


@pytest.mark.parametrize("same_way", [True, False])
def test_a_hole_as_a_second_contour_and_as_a_keyhole(same_way: bool) -> None:
    outer, hole = circle(17.3, 14.6, 12.27), circle(17.3, 14.6, 5.38)
    distance = away(17.3, 14.6)
    assert min(np.abs(distance - radius).min() for radius in (12.27, 5.38)) > 2e-3
    expected = (distance < 12.27) & (distance > 5.38)
    second = hole if same_way else hole[::-1]
    assert (contour_mask([outer, second], SHAPE) == expected).all()
    assert (contour_mask([second, outer], SHAPE) == expected).all()
    assert (contour_mask([ring_of(hole, outer)], SHAPE) == expected).all()


def test_an_island_in_a_hole() -> None:
    contours = [box(1.5, 20.5, 1.5, 20.5), box(4.5, 17.5, 4.5, 17.5), box(8.5, 12.5, 8.5, 12.5)]
    assert contour_mask(contours, SHAPE).sum() == 19**2 - 13**2 + 4**2


def test_contours_may_leave_the_image() -> None:
    assert contour_mask([box(-5.5, 3.5, -1e6, 1e6)], SHAPE).sum() == 4 * 30
    assert contour_mask([box(-1e6, 1e6, -1e6, 1e6)], SHAPE).all()
    assert not contour_mask([box(50, 60, 2, 8)], SHAPE).any()
    assert not contour_mask([box(-9, -2, 2, 8)], SHAPE).any()
    assert not contour_mask([], SHAPE).any()


_SIXTEENTHS = st.integers(-64, 700).map(lambda n: n / 16)
_POLYGONS = st.lists(
    st.lists(st.tuples(_SIXTEENTHS, _SIXTEENTHS), min_size=3, max_size=9).map(np.array),
    min_size=1,
    max_size=3,
)


@given(_POLYGONS)
def test_it_agrees_with_exact_arithmetic(contours: list[NDArray[np.float64]]) -> None:
    """The even-odd rule and the distance to the edges, point by point."""
    mask = contour_mask(contours, SHAPE)
    i, j = (axis.ravel().astype(float) for axis in np.indices(SHAPE))
    odd, nearest = np.zeros(i.shape, bool), np.full(i.shape, np.inf)
    for contour in contours:
        for (x0, y0), (x1, y1) in zip(contour, np.roll(contour, -1, axis=0), strict=True):
            between = (y0 <= j) != (y1 <= j)
            with np.errstate(divide="ignore", invalid="ignore"):
                odd ^= between & (x0 + (j - y0) * (x1 - x0) / (y1 - y0) < i)
            length = (x1 - x0) ** 2 + (y1 - y0) ** 2
            part = ((i - x0) * (x1 - x0) + (j - y0) * (y1 - y0)) / length if length else 0
            part = np.clip(part, 0, 1)
            gap = np.hypot(i - x0 - part * (x1 - x0), j - y0 - part * (y1 - y0))
            nearest = np.minimum(nearest, gap)
    on = nearest < 1e-9
    clear = nearest > 2 * ON_CONTOUR
    assert (mask.ravel()[on]).all()
    assert (mask.ravel()[clear] == odd[clear]).all()


@pytest.mark.parametrize("seed", range(5))
def test_it_agrees_with_scikit_image_and_matplotlib(seed: int) -> None:
    from matplotlib.path import Path
    from skimage.draw import polygon2mask

    generator = np.random.default_rng(seed)
    star = circle(19, 14, 1, 60) - (19, 14)
    points = star * generator.uniform(3, 17, (60, 1)) + (19, 14)
    mask = contour_mask([points], SHAPE)
    assert (mask == polygon2mask(SHAPE, points)).all()
    inside = Path(points).contains_points(np.indices(SHAPE).reshape(2, -1).T)
    assert (mask == inside.reshape(SHAPE)).all()


def test_many_long_edges_take_little_memory() -> None:
    import tracemalloc

    zigzag = np.column_stack([np.arange(5001) % 40, np.tile([-1.0, 999.0], 2501)[:5001]])
    tracemalloc.start()
    contour_mask([zigzag], (40, 1000))  # 5 million crossings
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 128 * 2**20
