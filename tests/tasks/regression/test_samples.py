"""What each level learns of a real-valued target, by hand."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from medseg_nca.tasks.regression.losses import constant_loss, masked_loss
from medseg_nca.tasks.regression.options import RegressionOptions
from medseg_nca.tasks.regression.samples import RealCase
from medseg_nca.transforms.warp import Warp

nan = float("nan")


def still(size: tuple[int, ...], start: tuple[int, ...] | None = None) -> Warp:
    first = np.array(start or (0,) * len(size))
    return Warp(size, np.eye(len(size)), first + np.array(size) / 2)


def case(target: list[list[float]]) -> RealCase:
    array = np.array(target, np.float32)[None]
    return RealCase(np.zeros_like(array), array)


def test_a_coarse_cell_holds_the_mean_of_what_is_known() -> None:
    arrays = case([[1, 3, nan, nan], [5, nan, nan, nan]])
    total, known = arrays.target(still((2, 4)), (0, 0), (1, 2), (2, 2))
    assert known.tolist() == [[0.75, 0]]
    assert (total / known.clamp_min(1e-6)).tolist() == [[3, 0]]


def test_beyond_the_image_nothing_is_known() -> None:
    total, known = case([[1, 1], [1, 1]]).target(still((4, 4), (-1, -1)), (0, 0), (4, 4), (1, 1))
    assert known.sum() == 4
    assert total.equal(known)


@pytest.mark.parametrize("scale", [(1, 1), (2, 2), (4, 4)])
def test_between_voxels_the_mean_stays_the_mean(scale: tuple[int, int]) -> None:
    """Values on a slope, read half a voxel further: half a step more, wherever it is known."""
    slope = np.broadcast_to(np.arange(16.0, dtype=np.float32)[:, None], (16, 16)).copy()
    slope[:, 0] = nan
    arrays = RealCase(slope[None] * 0, slope[None])
    moved = Warp((16, 16), np.eye(2) * 1.00001, np.array([8.5, 8.0]))
    cells = tuple(16 // s for s in scale)
    total, known = arrays.target(moved, (0, 0), cells, scale)
    found = (total / known.clamp_min(1e-6))[1:-1, 1:]
    centres = (torch.arange(cells[0]) + 0.5) * scale[0] - 0.5 + 0.5
    torch.testing.assert_close(found, centres[1:-1, None].expand_as(found), atol=0.01, rtol=0)


def test_a_voxel_to_look_at_is_one_that_is_known() -> None:
    arrays = case([[nan, 2.0], [nan, nan]])
    assert {arrays.voxel(random.Random(n)) for n in range(5)} == {(0, 1)}
    assert case([[nan, nan]]).voxel(random.Random(0)) is None


TARGET = torch.tensor([[[[2.0, 0.0]], [[1.0, 0.0]]]])  # one known voxel, one unknown
FOUND = torch.tensor([[[[5.0, 100.0]]]])


@pytest.mark.parametrize(("name", "value"), [("l1", 3.0), ("mse", 9.0), ("huber", 0.5 * 2.75)])
def test_losses_count_where_the_target_is_known(name: str, value: float) -> None:
    """Huber with delta 0.5: 0.5 * (3 - 0.25)."""
    options = RegressionOptions(loss=name)
    found = FOUND.clone().requires_grad_()
    loss = masked_loss(found, TARGET, options)
    assert loss.item() == pytest.approx(value)
    loss.backward()  # type: ignore[no-untyped-call]
    assert found.grad is not None
    assert found.grad[..., 1].abs().max() == 0


def test_a_cell_known_by_half_counts_half() -> None:
    target = torch.tensor([[[[1.0, 4.0]], [[0.5, 1.0]]]])  # means 2 and 4
    found = torch.zeros(1, 1, 1, 2)
    loss = masked_loss(found, target, RegressionOptions(loss="l1"))
    assert loss.item() == pytest.approx((0.5 * 2 + 1 * 4) / 1.5)


def test_nothing_known_is_no_loss_and_no_gradient() -> None:
    found = FOUND.clone().requires_grad_()
    loss = masked_loss(found, torch.zeros(1, 2, 1, 2), RegressionOptions())
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == 0
    assert found.grad is not None
    assert found.grad.abs().max() == 0


def test_the_best_constant_is_the_mean_for_squares_and_the_median_for_sizes() -> None:
    values = torch.tensor([0.0, 0.0, 1.5])
    target = torch.stack([values, torch.ones(3)])[None, :, None]
    square = constant_loss([target], RegressionOptions(loss="mse"))
    size = constant_loss([target], RegressionOptions(loss="l1"))
    assert square == pytest.approx(float(values.var(correction=0)), abs=1e-3)
    assert size == pytest.approx(0.5)
