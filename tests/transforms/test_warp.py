"""Where a sample's voxels come from, by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from medseg_nca.config.data import AugmentSettings
from medseg_nca.errors import ConfigError
from medseg_nca.transforms.warp import Warp, check_flips, draw_warp

STILL = {"affine_p": 0.0, "elastic_p": 0.0}


def drawn(size: tuple[int, ...], seed: int = 0, **changes: object) -> Warp:
    settings = AugmentSettings.model_validate({**STILL, **changes})
    start, spacing = (0,) * len(size), (1.0,) * len(size)
    return draw_warp(settings, size, start, spacing, np.random.default_rng(seed))


@pytest.mark.parametrize("size", [(8, 12), (8, 12, 6)])
def test_without_a_change_a_sample_is_a_window(size: tuple[int, ...]) -> None:
    start = (4, -2, 6)[: len(size)]
    warp = Warp(size, np.eye(len(size)), np.array(start) + np.array(size) / 2)
    one = (1,) * len(size)
    points = warp.points((0,) * len(size), size, one)
    assert points[(0,) * len(size)].tolist() == [s + 0.5 for s in start]
    assert points[(-1,) * len(size)].tolist() == [
        s + n - 0.5 for s, n in zip(start, size, strict=True)
    ]
    cells = warp.cells((1,) * len(size), (2,) * len(size), (2,) * len(size))
    assert cells is not None
    assert [(axis, index.tolist()) for axis, index in cells] == [
        (axis, [s // 2 + 1, s // 2 + 2]) for axis, s in enumerate(start)
    ]
    assert warp.voxel([s + 1 for s in start]) == (1,) * len(size)
    assert warp.voxel([s - 1 for s in start]) is None


def test_cells_that_do_not_lie_on_cells_of_the_source_are_mixed() -> None:
    warp = Warp((8, 8), np.eye(2), np.array([5.0, 4.0]))
    assert warp.cells((0, 0), (8, 8), (1, 1)) is not None
    assert warp.cells((0, 0), (4, 4), (2, 2)) is None


def test_a_flip_reads_an_axis_from_its_end() -> None:
    warp = drawn((8, 6), flip_axes=(1,), flip_p=1.0)
    cells = warp.cells((0, 0), (4, 3), (2, 2))
    assert cells is not None
    assert [index.tolist() for _, index in cells] == [[0, 1, 2, 3], [2, 1, 0]]
    assert warp.voxel((1, 0)) == (1, 5)


def test_quarter_turns_exchange_axes_of_equal_length_only() -> None:
    turned = {str(drawn((6, 6), seed, rotate90=True, flip_p=0.0).axes()) for seed in range(40)}
    assert len(turned) == 4
    assert all(drawn((6, 8), seed, rotate90=True).axes() == [(0, 1), (1, 1)] for seed in range(9))


def test_a_turn_is_rigid_in_millimetres() -> None:
    settings = AugmentSettings(affine_p=1.0, rotate=30, scale=(1.0, 1.0))
    spacing = np.array([1.0, 1.5, 1.2])
    warp = draw_warp(settings, (8, 8, 8), (0, 0, 0), tuple(spacing), np.random.default_rng(1))
    turn = np.diag(spacing) @ warp.matrix @ np.diag(1 / spacing)
    assert turn @ turn.T == pytest.approx(np.eye(3), abs=1e-9)
    assert not np.allclose(turn, np.eye(3))


def test_thick_slices_are_turned_in_their_plane() -> None:
    settings = AugmentSettings(affine_p=1.0, rotate=30, scale=(1.0, 1.0))
    warp = draw_warp(settings, (8, 8, 8), (0, 0, 0), (1.0, 1.0, 5.0), np.random.default_rng(1))
    assert warp.matrix[2] == pytest.approx([0, 0, 1])
    assert warp.matrix[:, 2] == pytest.approx([0, 0, 1])
    assert abs(warp.matrix[0, 1]) > 0.01


def test_scale_is_the_factor_of_the_object() -> None:
    warp = drawn((10, 10), affine_p=1.0, rotate=0, scale=(2.0, 2.0))
    assert warp.matrix == pytest.approx(np.eye(2) / 2)


def test_a_bend_shifts_voxels_a_little_and_smoothly() -> None:
    warp = drawn((40, 40), elastic_p=1.0)
    shift = warp.points((0, 0), (40, 40), (1, 1)) - drawn((40, 40)).points((0, 0), (40, 40), (1, 1))
    assert 0 < float(shift.abs().max()) < 5
    assert float(shift.diff(dim=0).abs().max()) < 1
    assert warp.axes() is None


def test_the_same_seed_draws_the_same() -> None:
    warps = [drawn((8, 8, 8), seed, affine_p=1.0, elastic_p=1.0) for seed in (4, 4, 5)]
    first, again, other = (w.points((0, 0, 0), (8, 8, 8), (1, 1, 1)) for w in warps)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_disabled_nothing_is_drawn() -> None:
    warp = drawn((8, 8), enabled=False, affine_p=1.0, flip_axes=(0, 1), flip_p=1.0)
    assert warp.axes() == [(0, 1), (1, 1)]


def test_a_flip_axis_that_is_not_there_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"flip_axes: there is no axis 2 in 2D"):
        check_flips(AugmentSettings(flip_axes=(0, 2)), 2)
