"""The fire mask: its rate, and that it depends on seed, sample, step and position only."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from medseg_nca.nca.fire import Fire, mix

CPU = torch.device("cpu")
KNOWN = [1, 1, 0, 1, 1, 0, 0, 1, 0, 0, 0, 1, 0, 1, 0, 0]
KNOWN_MIX = [83415710, 2421114473, 335063693]


def mask(fire: Fire, shape: tuple[int, ...], step: int = 0) -> torch.Tensor:
    return fire.mask(fire.positions(shape, CPU), step)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_the_share_of_cells_is_the_rate(rate: float) -> None:
    fired = mask(Fire.for_batch(rate, 1, 2), (40, 40, 40)).float()
    # 64,000 cells: four standard deviations are below 0.008.
    assert fired[0].mean() == pytest.approx(rate, abs=0.008)
    assert fired[1].mean() == pytest.approx(rate, abs=0.008)


def test_neighbours_steps_and_samples_are_independent() -> None:
    fire = Fire.for_batch(0.5, 7, 2)
    now, later = mask(fire, (64, 64)), mask(fire, (64, 64), step=1)
    pairs = {
        "steps": (now[0], later[0]),
        "samples": (now[0], now[1]),
        "neighbours": (now[0, 1:], now[0, :-1]),
        "columns": (now[0, :, 1:], now[0, :, :-1]),
    }
    for name, (a, b) in pairs.items():
        assert (a == b).float().mean() == pytest.approx(0.5, abs=0.035), name


def test_the_same_seed_gives_the_same_mask() -> None:
    one, two = Fire.for_batch(0.5, 3, 2), Fire.for_batch(0.5, 3, 2)
    assert torch.equal(mask(one, (9, 5)), mask(two, (9, 5)))
    assert not torch.equal(mask(one, (9, 5)), mask(Fire.for_batch(0.5, 4, 2), (9, 5)))


def test_a_part_of_the_grid_has_the_mask_of_the_whole() -> None:
    fire = Fire.for_batch(0.4, 11, 1)
    whole = mask(fire, (12, 10, 8), step=3)
    part = mask(fire.at((4, 0, 5)), (6, 10, 3), step=3)
    assert torch.equal(part, whole[:, 4:10, :, 5:8])
    inner = mask(fire.at((4, 0, 5)).at((1, 2, 0)), (3, 3, 3), step=3)
    assert torch.equal(inner, whole[:, 5:8, 2:5, 5:8])


def test_cells_that_sleep_do_not_fire_whatever_is_drawn() -> None:
    fire, awake = Fire.for_batch(0.5, 7, 1), torch.zeros(1, 6, 5, dtype=torch.bool)
    awake[:, 2:, 1:4] = True
    drawn = mask(fire, (6, 5))
    resting = replace(fire, awake=awake)
    found = resting.firing(resting.positions((6, 5), torch.device("cpu")), (6, 5), 0)
    assert found is not None
    assert torch.equal(found, drawn & awake)
    assert (drawn & ~awake).any()
    part = resting.at((2, 1))
    assert torch.equal(part.awake_cells((4, 3)), torch.ones(1, 4, 3, dtype=torch.bool))


def test_advancing_is_counting_steps() -> None:
    fire = Fire.for_batch(0.5, 2, 1)
    assert torch.equal(mask(fire, (8, 8), step=5), mask(fire.advance(5), (8, 8)))


def test_a_known_mask_stays_what_it_is() -> None:
    """Trained models and other engines rely on these very bits."""
    bits = mask(Fire.for_batch(0.5, 42, 1), (4, 4)).int().flatten().tolist()
    assert bits == KNOWN
    assert [mix(0), mix(1, 2), mix(2, 1)] == KNOWN_MIX


def test_all_cells_fire_without_a_mask() -> None:
    assert Fire.for_batch(1.0, 0, 1).all_cells
    assert Fire.for_batch(0.5, 0, 1, "mean").all_cells
    assert Fire.for_batch(0.5, 0, 1, "mean").scale == 0.5
    assert not Fire.for_batch(0.5, 0, 1).all_cells
