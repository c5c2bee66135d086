"""Changes of an image, and the way back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medseg_nca.dynamics.changes import Flip, ImageChange, QuarterTurn, Respacing, Shift, SmallTurn
from medseg_nca.io.volume import Volume


def volume(*shape: int, seed: int = 0) -> Volume:
    array = np.random.default_rng(seed).integers(0, 4, (1, *shape)).astype(np.uint8)
    return Volume(array, np.diag([1.0, 2.0, 3.0, 1.0]))


EXACT: list[ImageChange] = [
    *(QuarterTurn(turns) for turns in (1, 2, 3)), *(Flip(axis) for axis in range(3)),
]  # fmt: skip


@given(
    st.sampled_from(EXACT), st.tuples(*[st.integers(2, 9)] * 3), st.integers(0, 1000)
)  # fmt: skip
def test_turns_and_flips_come_back_exactly(
    change: ImageChange, shape: tuple[int, ...], seed: int
) -> None:
    source = volume(*shape, seed=seed)
    changed = change.apply(source)
    assert np.array_equal(change.back(changed.array, shape, smooth=False), source.array)
    assert changed.array.size == source.array.size


def test_a_quarter_turn_takes_the_spacing_along() -> None:
    changed = QuarterTurn(1).apply(volume(4, 6, 5))
    assert changed.shape == (6, 4, 5)
    assert changed.spacing == (2, 1, 3)
    assert QuarterTurn(2).apply(volume(4, 6, 5)).spacing == (1, 2, 3)


@given(st.integers(0, 2), st.integers(1, 3), st.tuples(*[st.integers(4, 9)] * 3))
def test_a_shift_comes_back_but_for_what_left_the_image(
    axis: int, voxels: int, shape: tuple[int, ...]
) -> None:
    source, change = volume(*shape), Shift(axis, voxels)
    moved = change.apply(source).array
    assert np.array_equal(np.take(moved, voxels, axis + 1), np.take(source.array, 0, axis + 1))
    window = (slice(None), *change.window(shape))
    back = change.back(moved, shape, smooth=False)
    assert np.array_equal(back[window], source.array[window])
    assert back[window].shape[axis + 1] == shape[axis] - voxels


def test_a_small_turn_is_a_turn_in_millimetres() -> None:
    # On an isotropic grid of odd size, 90 degrees by resampling are 90 degrees by turning.
    source = Volume(volume(7, 7, 3).array, np.eye(4))
    turned = SmallTurn(90).apply(source, smooth=False).array
    quarter = QuarterTurn(1).apply(source).array
    three = QuarterTurn(3).apply(source).array
    assert np.array_equal(turned, quarter) or np.array_equal(turned, three)
    # 10 voxels of 1 mm along one axis are 5 voxels of 2 mm along the other.
    array = np.zeros((1, 41, 41), np.uint8)
    array[0, 27:34, 18:23] = 1
    found = SmallTurn(90, (1.0, 2.0)).apply(Volume(array, np.diag([1.0, 2.0, 1, 1])), smooth=False)
    places = np.argwhere(found.array[0])
    assert places[:, 0].mean() == pytest.approx(20, abs=0.6)
    assert abs(places[:, 1].mean() - 20) == pytest.approx(5, abs=0.6)


def test_a_small_turn_there_and_back_keeps_a_ball() -> None:
    grid = np.indices((41, 41)) - 20
    ball = ((grid**2).sum(0) < 12**2)[None].astype(np.uint8)
    change = SmallTurn(10)
    turned = change.apply(Volume(ball, np.eye(4)), smooth=False).array
    back = change.back(turned, (41, 41), smooth=False)
    assert back.dtype == ball.dtype
    assert 2 * (back & ball).sum() / (back.sum() + ball.sum()) > 0.97


@pytest.mark.parametrize("factor", [0.5, 1.25, 2.0])
@pytest.mark.parametrize("told", [True, False])
def test_another_spacing_covers_the_same_place(factor: float, told: bool) -> None:
    ramp = np.broadcast_to(np.arange(20.0, dtype=np.float32)[:, None], (1, 20, 12))
    source = Volume(ramp, np.diag([1.5, 1.0, 1.0, 1.0]))
    change = Respacing(factor, told)
    changed = change.apply(source)
    assert changed.shape == (round(20 * factor), round(12 * factor))
    if told:
        # A linear image has at every place in mm the value that it had.
        inner = slice(2, -2)
        places = changed.affine[0, 0] * np.arange(changed.shape[0]) + changed.affine[0, 3]
        assert changed.array[0, inner, 3] == pytest.approx(places[inner] / 1.5, abs=1e-4)
    else:
        assert np.array_equal(changed.affine, source.affine)
    back = change.back(changed.array, source.shape, smooth=True)
    assert back[:, 2:-2] == pytest.approx(ramp[:, 2:-2], abs=1e-3)
