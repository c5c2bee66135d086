"""Several outlines of one plane: counted by hand, on a plane of 40 x 30 voxels."""

from __future__ import annotations

import itertools
import time

import numpy as np
import pytest
from numpy.typing import NDArray

from medseg_nca.io.dicom.annotations.nesting import Filled, fill_plane
from medseg_nca.io.dicom.annotations.polygons import contour_mask

SHAPE = (40, 30)
Points = NDArray[np.float64]


def box(x0: float, x1: float, y0: float, y1: float) -> Points:
    return np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])


def circle(x: float, y: float, radius: float, count: int = 90) -> Points:
    angle = np.arange(count) * 2 * np.pi / count
    return np.column_stack([x + radius * np.cos(angle), y + radius * np.sin(angle)])


def filled(*planar: Points, xor: tuple[Points, ...] = ()) -> Filled:
    """Whatever the order of the outlines."""
    results = [fill_plane(order, xor, SHAPE) for order in itertools.permutations(planar)]
    assert all((result.mask == results[0].mask).all() for result in results)
    return results[0]


def count(*planar: Points, xor: tuple[Points, ...] = ()) -> int:
    return int(filled(*planar, xor=xor).mask.sum())


# Voxels 5 to 14 by 5 to 14, so 100; and 10 to 19 by 10 to 19: 25 of each are common.
BOX, OTHER = box(4.5, 14.5, 4.5, 14.5), box(9.5, 19.5, 9.5, 19.5)


def test_outlines_that_overlap_in_part_are_united() -> None:
    assert count(BOX, OTHER) == 100 + 100 - 25
    assert filled(BOX, OTHER).overlapping == 1
    third = box(14.5, 24.5, 4.5, 14.5)  # touches the box, and 5 x 5 of it are the other's
    assert count(BOX, OTHER, third) == 175 + 100 - 25


def test_declared_xor_cancels_what_is_common() -> None:
    assert count(xor=(BOX, OTHER)) == 100 + 100 - 2 * 25
    inner = box(7.5, 9.5, 7.5, 9.5)
    assert count(xor=(BOX, inner)) == 100 - 4
    assert count(BOX, xor=(inner,)) == 100 - 4  # a hole that is declared, in one that is not
    assert count(BOX, xor=(box(20.5, 22.5, 4.5, 6.5),)) == 100 + 4


def test_three_levels_are_an_island_in_a_hole() -> None:
    hole, island = box(6.5, 12.5, 6.5, 12.5), box(8.5, 10.5, 8.5, 10.5)
    assert count(BOX, hole) == 100 - 36
    assert count(BOX, hole, island) == 100 - 36 + 4
    lake = box(8.9, 9.6, 8.9, 9.6)  # one voxel in the island, one level further
    assert count(BOX, hole, island, lake) == 100 - 36 + 4 - 1


def test_two_holes_and_one_that_two_outlines_share() -> None:
    assert count(BOX, box(5.5, 7.5, 5.5, 7.5), box(9.5, 12.5, 9.5, 12.5)) == 100 - 4 - 9
    shared = box(10.5, 13.5, 10.5, 13.5)  # within the part that both outlines have
    assert count(BOX, OTHER, shared) == 175 - 9


def test_a_hole_that_another_outline_covers_is_filled_there() -> None:
    hole = box(6.5, 12.5, 6.5, 12.5)  # voxels 7 to 12, of which 10 to 12 are the other's
    assert count(BOX, OTHER, hole) == 175 - 36 + 9


def test_a_hole_that_leaves_its_outline_is_none() -> None:
    """Voxels 12 to 16 by 7 to 9: 15, of which 9 lie in the box."""
    assert count(BOX, box(11.5, 16.5, 6.5, 9.5)) == 100 + 15 - 9


def test_a_hole_that_touches_its_outline_is_a_hole() -> None:
    touching = box(11.5, 14.5, 6.5, 9.5)
    assert count(BOX, touching) == 100 - 9
    rounded = touching + np.where(touching > 14, 0.02, 0.0)
    assert count(BOX, rounded) == 100 - 9


def test_outlines_that_touch_are_united() -> None:
    assert count(BOX, box(14.5, 18.5, 4.5, 14.5)) == 140
    assert filled(BOX, box(14.5, 18.5, 4.5, 14.5)).overlapping == 0
    assert count(BOX, box(14.5, 16.5, 14.5, 16.5)) == 104  # at a corner


@pytest.mark.parametrize(
    "copy",
    [
        BOX,
        BOX[::-1],
        np.roll(BOX, 2, axis=0),
        BOX + 0.01,
        BOX - [0.01, 0.02],
        (BOX - 9.5) * 0.99 + 9.5,
        (BOX - 9.5) * 0.999 + 9.5,
        np.repeat(BOX, 2, axis=0),
        np.array([*BOX[:1], (9.5, 4.5), *BOX[1:]]),
    ],
)
def test_a_copy_cancels_nothing(copy: Points) -> None:
    assert count(BOX, copy) == 100
    assert filled(BOX, copy).copies == 1
    hole = box(6.5, 12.5, 6.5, 12.5)
    assert count(BOX, copy, hole, hole[::-1]) == 100 - 36
    assert count(BOX, copy, copy) == 100


@pytest.mark.parametrize("copy", [BOX[::-1], np.roll(BOX, 1, axis=0), BOX + 0.01])
def test_a_copy_of_a_declared_xor_cancels_nothing_either(copy: Points) -> None:
    assert count(xor=(BOX, copy)) == 100
    assert count(xor=(BOX, box(6.5, 12.5, 6.5, 12.5), copy)) == 100 - 36


def test_a_coarse_copy_of_a_circle() -> None:
    fine, coarse = circle(18.2, 14.3, 10.3), circle(18.2, 14.3, 10.3, 30)
    either = contour_mask([fine], SHAPE) | contour_mask([coarse], SHAPE)
    assert (filled(fine, coarse).mask == either).all()


def test_a_wall_of_one_voxel_stays_a_wall() -> None:
    assert count(BOX, box(5.5, 13.5, 5.5, 13.5)) == 100 - 64


def test_a_keyhole_is_a_hole_and_so_is_its_hole_drawn_once_more() -> None:
    hole = box(6.5, 12.5, 6.5, 12.5)
    keyhole = np.concatenate([BOX, BOX[:1], hole[:1], hole[::-1], BOX[:1]])
    assert contour_mask([keyhole], SHAPE).sum() == 64
    assert count(keyhole) == 64
    assert count(keyhole, hole) == 64
    assert count(keyhole, box(8.5, 10.5, 8.5, 10.5)) == 64 + 4  # an island in it
    assert count(keyhole, keyhole[::-1]) == 64


def test_a_figure_of_eight_has_two_lobes() -> None:
    """Rows 1 to 9 hold 1, 3, 5, 7, 9 centres and back on each side of the crossing (5, 5)."""
    eight = np.array([(0.5, 0.5), (20.5, 10.5), (20.5, 0.5), (0.5, 10.5)])
    lobes = contour_mask([eight], SHAPE)
    i, j = np.indices(SHAPE)
    expected = (np.abs(j - 5.5) < np.abs(i - 10.5) / 2 + 1e-3) & (np.abs(i - 10.5) < 10)
    assert (lobes == expected).all()
    assert (filled(eight).mask == expected).all()
    inside_a_lobe = box(16.5, 18.5, 4.5, 6.5)
    assert count(eight, inside_a_lobe) == expected.sum() - 4


def test_a_notch_that_crosses_an_outline_makes_it_no_hole() -> None:
    """A U of 10 x 10 with a notch of 2 x 8, and a bar across both of its arms."""
    u = np.array(
        [(4.5, 4.5), (14.5, 4.5), (14.5, 14.5), (10.5, 14.5),
         (10.5, 6.5), (8.5, 6.5), (8.5, 14.5), (4.5, 14.5)]
    )  # fmt: skip
    assert count(u) == 100 - 16
    bar = box(5.5, 13.5, 9.5, 12.5)  # 8 x 3, of which 2 x 3 lie in the notch
    assert count(u, bar) == 84 + 6


def test_outlines_beyond_the_plane() -> None:
    assert count(box(-9.5, 4.5, -9.5, 4.5), box(-5.5, 2.5, -5.5, 2.5)) == 25 - 9
    assert count(box(-9.5, 99.5, -9.5, 99.5), BOX) == 1200 - 100
    assert count(box(50.5, 60.5, 2.5, 4.5), BOX) == 100
    assert count() == 0


def test_many_holes_take_little_time_and_memory() -> None:
    holes = [box(x - 0.6, x + 0.6, y - 0.6, y + 0.6) for x in range(2, 398, 4) for y in (3, 9, 15)]
    result = fill_plane([box(-0.5, 399.5, -0.5, 29.5), *holes], [], (400, 30))
    assert result.mask.sum() == 400 * 30 - len(holes)


def test_outlines_of_very_many_points_take_little_time() -> None:
    """Ten rings in rings of 20,000 points each: every pair is compared."""
    radii = np.linspace(2.0, 29.0, 10)
    rings = [circle(40.2, 40.3, radius, 20_000) for radius in radii]
    started = time.process_time()
    result = fill_plane(rings, [], (80, 80))
    assert time.process_time() - started < 20
    few = fill_plane([circle(40.2, 40.3, radius, 500) for radius in radii], [], (80, 80))
    assert np.count_nonzero(result.mask != few.mask) <= 5
    assert (result.copies, result.overlapping) == (0, 0)
