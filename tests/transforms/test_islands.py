"""Islands are removed by hand-drawn maps: what is largest, what hangs together, what is left."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from medseg_nca.config import Label, LabelTable
from medseg_nca.transforms.islands import BYTES_A_VOXEL, remove_islands, share_apart

TABLE = LabelTable(labels=(Label(name="a", values=(3,)), Label(name="b", values=(7,))))
REGIONS = LabelTable(
    labels=(
        Label(name="whole", values=(1, 2, 3), write=2),
        Label(name="core", values=(1, 3), write=1),
        Label(name="enhancing", values=(3,)),
    ),
    multi_label=True,
)


def drawn(text: str) -> np.ndarray:
    return np.array([[int(c) for c in line] for line in text.split()], np.uint8)


def test_only_the_largest_part_of_a_label_stays() -> None:
    found = drawn("33000 33007 00000 30077")
    assert remove_islands(found, ("a",), TABLE) == 1
    np.testing.assert_array_equal(found, drawn("33000 33007 00000 00077"))
    assert remove_islands(found, ("b",), TABLE) == 1
    np.testing.assert_array_equal(found, drawn("33000 33000 00000 00077"))
    assert remove_islands(found, ("a", "b", "merged"), TABLE) == 2  # 77 is apart from 33


def test_corners_join_in_2d_and_3d() -> None:
    corner = drawn("300 030 000")
    assert remove_islands(corner, ("a",), TABLE) == 0
    cube = np.zeros((3, 3, 3), np.uint8)
    cube[0, 0, 0] = cube[1, 1, 1] = 3
    assert remove_islands(cube, ("a",), TABLE) == 0
    cube[1, 1, 1], cube[2, 2, 2] = 0, 3
    assert remove_islands(cube, ("a",), TABLE) == 1
    assert cube[0, 0, 0] == 3  # of two that are as large the first


def test_merged_keeps_labels_that_touch_and_goes_first() -> None:
    found = drawn("37000 33000 00077 00000")
    assert remove_islands(found, ("merged",), TABLE) == 2
    np.testing.assert_array_equal(found, drawn("37000 33000 00000 00000"))
    # By itself the larger 7 would have stayed; after the union it is gone and the small one stays.
    found = drawn("37000 33000 00077 00000")
    assert remove_islands(found, ("b", "merged"), TABLE) == 2
    assert found[0, 1] == 7


def test_an_island_of_a_region_becomes_what_is_around_it() -> None:
    found = drawn("2222200 2312320 2222200 0000003")
    before = found.copy()
    assert remove_islands(found, ("enhancing",), REGIONS) == 2
    expected = before.copy()
    expected[1, 4] = expected[3, 6] = 1  # still core
    np.testing.assert_array_equal(found, expected)
    assert remove_islands(found, ("whole",), REGIONS) == 1
    assert found[3, 6] == 0  # with the core that was in it
    assert found[1, 4] == 1


def test_nothing_to_remove() -> None:
    empty = np.zeros((4, 5), np.uint8)
    assert remove_islands(empty, ("a", "merged"), TABLE) == 0
    one = drawn("000 030 000")
    assert remove_islands(one, ("a", "b", "merged"), TABLE) == 0
    assert one[1, 1] == 3


def test_the_share_that_lies_apart() -> None:
    assert share_apart(drawn("1110 0000 0001") > 0) == pytest.approx(1 / 4)
    assert share_apart(np.zeros((3, 3), bool)) == 0


def test_it_takes_the_memory_that_it_says() -> None:
    found = np.zeros((100, 100, 100), np.uint8)
    found[::4, ::4, ::4] = 3  # 15,625 parts
    found[-1, -1, -1] = 3
    remove_islands(found[:8].copy(), ("a",), TABLE)
    tracemalloc.start()
    try:
        remove_islands(found, ("a",), TABLE)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert np.count_nonzero(found) == 1
    assert peak < 1.05 * (BYTES_A_VOXEL * found.size + 8 * 2**20)
