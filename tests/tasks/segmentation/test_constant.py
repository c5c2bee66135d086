"""What a constant answer reaches, by hand."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from medseg_nca.config import Label, LabelTable
from medseg_nca.datasets.prepared import PreparedCase
from medseg_nca.losses import create_loss
from medseg_nca.tasks.segmentation.constant import constant_loss, constant_predictions


def quarter(channels: int) -> torch.Tensor:
    """Four voxels, one of them of the (last) label."""
    target = torch.zeros(1, channels, 2, 2)
    target[:, -1, 0, 0] = 1
    if channels == 2:
        target[:, 0] = 1 - target[:, 1]
    return target


@pytest.mark.parametrize("multi_label", [False, True])
def test_of_a_cross_entropy_it_is_the_entropy(multi_label: bool) -> None:
    criterion = create_loss("dice_ce", multi_label=multi_label, lambda_dice=0.0)
    entropy = -(math.log(1 / 4) / 4 + 3 * math.log(3 / 4) / 4)
    found = constant_loss(criterion, [quarter(1 if multi_label else 2)] * 2, multi_label)
    assert found == pytest.approx(entropy, abs=1e-4)


def test_of_dice_it_is_the_label_everywhere() -> None:
    criterion = create_loss("dice", multi_label=False)
    assert constant_loss(criterion, [quarter(2)], False) == pytest.approx(1 - 2 / 5, abs=0.01)


def test_voxels_of_a_large_target_are_drawn() -> None:
    criterion = create_loss("dice_ce", multi_label=False, lambda_dice=0.0)
    large = quarter(2).repeat(1, 1, 150, 150)
    assert constant_loss(criterion, [large], False) == pytest.approx(0.5623, abs=0.02)


def case(name: str, **foreground: int) -> PreparedCase:
    return PreparedCase(
        id=name, images=(Path("x"),), label=Path("y"), shape=(5, 4), foreground=foreground, key=""
    )


def table(*names: str) -> LabelTable:
    return LabelTable(labels=tuple(Label(name=n, values=(i + 1,)) for i, n in enumerate(names)))


def test_dice_of_each_label_everywhere() -> None:
    nothing, all_a, all_b = constant_predictions(
        [case("c", a=5, b=0), case("d", a=20)], table("a", "b")
    )
    assert nothing == {"c": {"a": 0.0, "b": None}, "d": {"a": 0.0, "b": None}}
    assert all_a == {"c": {"a": 10 / 25, "b": None}, "d": {"a": 1.0, "b": None}}
    assert all_b == {"c": {"a": 0.0, "b": 0.0}, "d": {"a": 0.0, "b": 0.0}}


def test_overlapping_labels_are_everywhere_at_once() -> None:
    labels = LabelTable(
        labels=(Label(name="a", values=(1, 2)), Label(name="b", values=(2,))), multi_label=True
    )
    found = constant_predictions([case("c", a=5, b=1)], labels)
    assert found[1:] == [{"c": {"a": 10 / 25, "b": 2 / 21}}]
