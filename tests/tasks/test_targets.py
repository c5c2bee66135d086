"""Targets of a level, by hand."""

from __future__ import annotations

import torch

from medseg_nca.models import LevelOutput
from medseg_nca.tasks.targets import level_target, one_hot, overflow


def output_of(
    size: tuple[int, ...], scale: tuple[int, ...], start: tuple[int, ...], channels: int
) -> LevelOutput:
    return LevelOutput(torch.zeros(1, channels, *size), scale, (start,))


def test_a_coarse_cell_holds_the_share_of_each_label() -> None:
    label = torch.tensor([[0, 1], [1, 2]]).view(1, 1, 2, 2)
    target = level_target(label, output_of((1, 1), (2, 2), (0, 0), 3), multi_label=False)
    assert target.flatten().tolist() == [0.25, 0.5, 0.25]


def test_a_patch_is_cut_where_it_begins() -> None:
    label = torch.arange(6).remainder(2).view(1, 1, 2, 3)
    target = level_target(label, output_of((1, 2), (1, 1), (1, 1), 2), multi_label=False)
    assert target[0, 1].tolist() == [[0.0, 1.0]]


def test_cells_beyond_the_image_are_background() -> None:
    label = torch.ones(1, 1, 3, 3)
    target = level_target(label, output_of((2, 2), (2, 2), (0, 0), 2), multi_label=False)
    assert target[0, 1].tolist() == [[1.0, 0.5], [0.5, 0.25]]


def test_overlapping_labels_keep_their_channels() -> None:
    label = torch.ones(1, 2, 2, 2, dtype=torch.uint8)
    assert one_hot(label, 2, multi_label=True).equal(torch.ones(1, 2, 2, 2))


def test_overflow_is_the_distance_from_the_bounds() -> None:
    state = torch.tensor([-12.0, 0.0, 10.0, 14.0]).view(1, 1, 4)
    assert overflow(state, 10.0).item() == (2 + 4) / 4
    assert overflow(None, 10.0).item() == 0.0
