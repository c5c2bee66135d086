"""Wounds."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from medseg_nca.nca.damage import random_damage
from medseg_nca.tasks.generation.damage import fixed_damage


def target() -> torch.Tensor:
    """A square of 4 x 4 in the middle of 6 x 6."""
    alpha = torch.zeros(6, 6)
    alpha[1:5, 1:5] = 1
    return alpha


def test_half_of_the_target_is_cut_off_along_the_first_axis() -> None:
    keep = fixed_damage(target(), "half").int()
    assert keep.tolist() == [[1] * 6] * 3 + [[0] * 6] * 3


def test_a_corner_ends_in_the_middle_of_the_target() -> None:
    keep = fixed_damage(target(), "corner").int()
    assert keep.tolist() == [[0, 0, 0, 1, 1, 1]] * 3 + [[1] * 6] * 3


def test_a_disc_of_a_quarter_of_the_side_is_cut_out_of_the_middle() -> None:
    """The radius is 1; the middles of the four inner cells are 0.71 away, the next 1.58."""
    gone = (~fixed_damage(target(), "disc")).nonzero().tolist()
    assert gone == [[2, 2], [2, 3], [3, 2], [3, 3]]
    assert fixed_damage(target(), "none").all()


@given(st.integers(0, 2**32), st.lists(st.integers(4, 12), min_size=2, max_size=3))
def test_a_random_wound_is_one_and_comes_back(number: int, shape: list[int]) -> None:
    keep = random_damage(shape, number)
    assert keep.shape == tuple(shape)
    assert torch.equal(keep, random_damage(shape, number))


def test_random_wounds_are_discs_and_half_spaces_and_never_everything() -> None:
    shares = torch.tensor([float(random_damage((20, 20), n).float().mean()) for n in range(200)])
    assert shares.min() > 0.05
    assert shares.max() < 1
    assert shares.std() > 0.1
