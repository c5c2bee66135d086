"""Losses against numbers worked by hand."""

from __future__ import annotations

import math

import pytest
import torch

from medseg_nca.errors import ConfigError
from medseg_nca.losses import create_loss, loss_names


@pytest.mark.parametrize("name", loss_names())
@pytest.mark.parametrize("multi_label", [False, True])
def test_a_perfect_answer_costs_less_than_a_wrong_one(name: str, multi_label: bool) -> None:
    loss = create_loss(name, multi_label=multi_label)
    target = torch.zeros(1, 3, 4, 4)
    target[:, 0, :1] = 1
    target[:, 1, 1:2] = 1
    target[:, 2, 2:] = 1
    right, wrong = 20 * (target - 0.5), 20 * (0.5 - target)
    assert loss(right, target) < 0.01 < loss(wrong, target)


def test_dice_ce_by_hand() -> None:
    """Two voxels, equal logits: p = 1/2 everywhere, one voxel is the label.

    Dice of the label 2 * 0.5 / (1 + 1) = 0.5; cross entropy ln 2.
    """
    loss = create_loss("dice_ce", multi_label=False)
    target = torch.tensor([[[[1.0, 0.0]], [[0.0, 1.0]]]])
    value = loss(torch.zeros(1, 2, 1, 2), target)
    assert value.item() == pytest.approx(0.5 + math.log(2), abs=1e-4)


def test_overlapping_labels_get_binary_cross_entropy() -> None:
    """Both labels everywhere, logits 0: Dice 2 * 0.5 / 1.5 a label, cross entropy ln 2."""
    loss = create_loss("dice_ce", multi_label=True)
    value = loss(torch.zeros(1, 2, 3, 3), torch.ones(1, 2, 3, 3))
    assert value.item() == pytest.approx(1 / 3 + math.log(2), abs=1e-4)


def test_an_unknown_loss_or_parameter_is_named() -> None:
    with pytest.raises(ConfigError, match="did you mean 'dice_ce'"):
        create_loss("dice_cee", multi_label=False)
    with pytest.raises(ConfigError, match="did you mean 'lambda_dice'"):
        create_loss("dice_ce", multi_label=False, lambda_dicce=2)
