"""From grid to grid: linear interpolation in slabs that change nothing, and labels that stay."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from medseg_nca.transforms.resample import Mapping, resample, resample_labels

STRAIGHT = np.diag([0.5, 1.0, 2.0, 1.0])
FLIPPED = np.diag([-0.8, 0.7, 2.5, 1.0])


def test_a_line_by_hand() -> None:
    """Voxels every 2 mm are read every 1.5 mm from 1 mm on, and stay the last beyond the end."""
    new = np.diag([1.5, 1.0, 1.0, 1.0])
    new[0, 3] = 1.0
    mapping = Mapping.between(np.diag([2.0, 1.0, 1.0, 1.0]), new, (5, 1))
    line = np.array([0, 10, 20, 40], np.int16).reshape(1, 4, 1)
    found = resample(line, mapping)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.ravel(), [5, 12.5, 20, 35, 40])


@pytest.mark.parametrize("new", [STRAIGHT, FLIPPED])
@pytest.mark.parametrize("slab", [1, 200, 1 << 22])
def test_it_is_the_interpolation_of_scipy(new: np.ndarray, slab: int) -> None:
    array = np.random.default_rng(0).normal(size=(2, 9, 8, 7)).astype(np.float32)
    old = np.diag([1.0, 0.9, 1.1, 1.0])
    new = new.copy()
    new[:3, 3] = (5.0, -0.5, 0.3)
    mapping = Mapping.between(old, new, (11, 6, 5))
    index = np.stack(np.meshgrid(*(np.arange(n) for n in (11, 6, 5)), indexing="ij"))
    places = np.tensordot(np.diag(mapping.step), index, 1)
    places += np.reshape(mapping.offset, (3, 1, 1, 1))
    expected = [map_coordinates(c, places, order=1, mode="nearest") for c in array]
    np.testing.assert_allclose(resample(array, mapping, slab), expected, atol=1e-5)


def test_grids_whose_axes_are_not_parallel_are_refused() -> None:
    sheared = np.eye(4)
    sheared[0, 1] = 0.2
    with pytest.raises(ValueError, match="not parallel"):
        Mapping.between(np.eye(4), sheared, (5, 5, 5))


def same_space(shape: tuple[int, ...], step: tuple[float, ...]) -> Mapping:
    """To voxels ``step`` times as long that fill the same part of space."""
    new = tuple(max(round(n / s), 1) for n, s in zip(shape, step, strict=True))
    first = [(n - 1 - s * (m - 1)) / 2 for n, s, m in zip(shape, step, new, strict=True)]
    return Mapping(step, tuple(first), new)


def box() -> np.ndarray:
    array = np.zeros((1, 20, 20, 20), np.uint8)
    array[0, 5:15, 4:14, 5:15] = 1
    return array


@pytest.mark.parametrize("step", [0.5, 0.25, 1 / 3])
def test_a_cube_of_1000_voxels_has_as_much_room_in_finer_ones(step: float) -> None:
    found = resample_labels(box(), same_space((20, 20, 20), (step,) * 3))
    assert found.sum() * step**3 == pytest.approx(1000, abs=1.5)


def test_a_border_halfway_between_voxels_is_moved_to_one_side_at_both_ends() -> None:
    """Voxels 5 to 14 in pairs (0, 1), (2, 3), ...: the pairs (4, 5) and (14, 15) are ties."""
    found = resample_labels(box()[..., 9:10], same_space((20, 20, 1), (2, 1, 1)))
    np.testing.assert_array_equal(found[0, :, 8, 0], [0, 0, 1, 1, 1, 1, 1, 0, 0, 0])


@pytest.mark.parametrize("step", [0.5, 0.7, 0.9, 1.1, 1.5])
@pytest.mark.parametrize("radius", [4, 8])
def test_balls_keep_their_volume(step: float, radius: int) -> None:
    """Over many places and shapes: one alone may gain or lose by where it lies between voxels."""
    generator = np.random.default_rng(0)
    size = 4 * radius
    grid = np.stack(np.meshgrid(*(np.arange(size),) * 3, indexing="ij"))
    before = after = 0.0
    for _ in range(30):
        middle = (size - 1) / 2 + generator.uniform(-1, 1, (3, 1, 1, 1))
        edges = radius * generator.uniform(0.7, 1.4, (3, 1, 1, 1))
        ball = ((((grid - middle) / edges) ** 2).sum(0) < 1).astype(np.uint8)
        before += ball.sum()
        after += resample_labels(ball[None], same_space(ball.shape, (step,) * 3)).sum() * step**3
    assert after == pytest.approx(before, rel=0.005)


@pytest.mark.parametrize("step", [(0.5, 0.5, 0.5), (1.7, 1.7, 0.34), (1.3, 0.8, 2.1)])
def test_no_background_opens_where_labels_meet(step: tuple[float, ...]) -> None:
    """Sectors of a filled volume: four labels meet in a line, and none leaves a hole."""
    x, y, z = np.meshgrid(np.arange(12), np.arange(14), np.arange(12), indexing="ij")
    sectors = (1 + (x + z > 11) + 2 * (y > 6 + z // 4)).astype(np.uint8)
    found = resample_labels(sectors[None], same_space(sectors.shape, step))
    assert set(np.unique(found)) == {1, 2, 3, 4}


def test_a_speck_is_not_drawn_larger_than_it_is() -> None:
    array = np.zeros((1, 16, 16, 16), np.uint8)
    array[0, ::8, ::8, ::8] = 3
    assert not resample_labels(array, same_space((16, 16, 16), (2, 2, 2))).any()


@pytest.mark.parametrize("slab", [1, 300])
def test_slabs_change_no_label(slab: int) -> None:
    array = np.random.default_rng(1).integers(0, 6, (2, 9, 8, 7)).astype(np.uint8)
    array[:, :, :4] = 2
    mapping = same_space((9, 8, 7), (0.7, 1.4, 2.0))
    whole = resample_labels(array, mapping)
    np.testing.assert_array_equal(resample_labels(array, mapping, slab), whole)


def test_labels_on_the_same_grid_stay() -> None:
    array = np.random.default_rng(1).integers(0, 6, (1, 9, 8)).astype(np.uint8)
    np.testing.assert_array_equal(resample_labels(array, same_space((9, 8), (1, 1))), array)
