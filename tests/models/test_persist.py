"""Roll-outs that go on from older states in training (``model.persist``)."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from medseg_nca.config.persist import PersistSettings
from medseg_nca.errors import ConfigError
from medseg_nca.models import LevelOutput, create_model
from medseg_nca.models.multilevel import MultiLevelNca
from medseg_nca.models.persist import damaged, grow_older
from medseg_nca.models.views import cut_views
from medseg_nca.nca import Cell, Fire, roll_out
from medseg_nca.nca.engines import get_engine
from medseg_nca.nca.stepwise import with_clock

PRESETS = [
    ("backbone_nca", 2), ("med_nca", 2), ("m3d_nca", 3), ("octree_nca", 3), ("octree_nca", 2),
    ("pyramid_nca", 3), ("cascade_nca", 2),
]  # fmt: skip


def model_of(
    name: str = "pyramid_nca", dims: int = 2, zero: bool = False, **changes: Any
) -> MultiLevelNca:
    """An automaton with small random weights; ``zero`` leaves its update rules at zero."""
    torch.manual_seed(0)
    changes.setdefault("levels", [{"scale": 2, "steps": 3}, {"scale": 1, "steps": 2, "patch": 6}])
    model = create_model(name, dims=dims, in_channels=1, out_channels=2, **changes)
    assert isinstance(model, MultiLevelNca)
    for parameter in model.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    for cell in model.cells:
        if zero:
            torch.nn.init.zeros_(cell.update.output.weight)  # type: ignore[arg-type]
            if cell.update.output.bias is not None:
                torch.nn.init.zeros_(cell.update.output.bias)  # type: ignore[arg-type]
    return model


def penalty_of(output: LevelOutput) -> float:
    assert output.penalty is not None
    return float(output.penalty.detach())


def outputs_of(model: MultiLevelNca, seed: int = 0, size: int = 12) -> list[LevelOutput]:
    generator = torch.Generator().manual_seed(5)
    image = torch.rand(2, 1, *[size] * model.dims, generator=generator)
    persist = model.settings.persist
    extra = 0.0 if persist is None else persist.extra
    return model.training_outputs(cut_views(image, model.views, seed), seed, extra=extra)


def one_level(model: MultiLevelNca, seed: int) -> tuple[Cell, Tensor, Fire]:
    """Cell, first state and fire mask of a model of one level."""
    generator = torch.Generator().manual_seed(5)
    image = torch.rand(2, 1, 12, 12, generator=generator)
    zeros = torch.zeros(2, model.settings.cell.channels - 1, 12, 12)
    fire = model.fire_of(0, 2, seed, "sample")
    return model.cell(0), torch.cat((image, zeros), 1), fire


def test_the_state_is_that_of_a_longer_roll_out_and_ages_spread() -> None:
    levels = [{"scale": 1, "steps": 4}]
    model = model_of(levels=levels, persist={"chance": 0.5, "extra": 3}, engine="reference")
    ages = []
    for seed in range(30):
        cell, state, fire = one_level(model, seed)
        found = outputs_of(model, seed)[0].state
        reached: list[Tensor] = []
        roll_out(get_engine("reference"), cell, state, 16, fire, record=reached.append)
        ages += [n for n, after in enumerate(reached, 1) if torch.equal(after, found)]
    assert len(ages) == 30
    assert min(ages) == 4
    assert max(ages) in {14, 15, 16}
    assert 7 < ages.count(4) < 23
    assert len(set(ages)) > 7


def test_gradients_are_those_of_the_usual_steps_alone() -> None:
    model = model_of(levels=[{"scale": 1, "steps": 3}], persist={"chance": 1.0, "extra": 2})
    cell, state, fire = one_level(model, 1)
    engine = model.engine
    outputs_of(model, 1)[0].logits.square().sum().backward()
    weight = cell.update.output.weight
    assert weight.grad is not None
    found, matches = weight.grad.clone(), []
    for extra in range(1, 7):
        model.zero_grad()
        with torch.no_grad():
            older = roll_out(engine, cell, state, extra, fire)
        after = roll_out(engine, cell, older, 3, fire.advance(extra))
        model.level_logits(0, after).square().sum().backward()
        matches.append(torch.allclose(weight.grad, found, rtol=1e-4, atol=1e-6))
    assert sum(matches) == 1


@pytest.mark.parametrize(("name", "dims"), PRESETS)
def test_every_weight_of_every_preset_gets_a_gradient(name: str, dims: int) -> None:
    """Also those of a context between two levels, which only the extra steps have seen."""
    preset = create_model(name, dims=dims, in_channels=1, out_channels=1)
    assert isinstance(preset, MultiLevelNca)
    coarse = {"scale": 2, "steps": (1, 2)}
    levels = [coarse, {"scale": 1, "steps": 2, "patch": 4}]
    levels = levels[-1:] if len(preset.scales) == 1 and name != "pyramid_nca" else levels
    persist = {"chance": 1.0, "extra": 2, "holes": 0.5, "noise": 0.1, "still": 0.1}
    model = model_of(name, dims, levels=levels, persist=persist)
    losses = [o.logits.sum() + (0 if o.penalty is None else o.penalty)
              for o in outputs_of(model, size=8)]  # fmt: skip
    torch.stack(losses).sum().backward()
    assert [n for n, p in model.named_parameters() if p.grad is None] == []
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_mixed_precision_keeps_the_gradients() -> None:
    """The extra steps must leave no copies of weights behind that pass no gradient."""
    model = model_of(persist={"chance": 1.0, "extra": 1}, engine="reference")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = outputs_of(model)
    sum((o.logits.float().sum() for o in outputs), torch.zeros(())).backward()
    for cell in model.cells:
        grad = cell.update.output.weight.grad  # type: ignore[union-attr]
        assert grad is not None
        assert grad.abs().max() > 0  # type: ignore[operator]


def test_the_same_seed_gives_the_same_and_off_is_off() -> None:
    persist = {"chance": 1.0, "holes": 1.0, "noise": 0.2}
    first, again, other = (outputs_of(model_of(persist=persist), s)[-1].logits for s in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    plain, off = model_of(), model_of(persist=None)
    assert torch.equal(outputs_of(plain)[-1].logits, outputs_of(off)[-1].logits)
    assert outputs_of(off)[-1].penalty is None
    views = cut_views(torch.rand(1, 1, 12, 12), plain.views, 0)
    early = model_of(persist=persist).training_outputs(views, 0)[-1].logits
    assert torch.equal(early, plain.training_outputs(views, 0)[-1].logits)
    assert "persist" not in off.settings.model_dump()
    assert model_of(persist=persist).settings.model_dump()["persist"]["holes"] == 1.0


def test_damage_leaves_the_image_and_is_drawn_for_each_sample() -> None:
    state = torch.ones(3, 5, 16, 16)
    holes = damaged(state, slice(2, 5), PersistSettings(holes=1.0), [1, 2, 3])
    assert torch.equal(state, torch.ones_like(state))
    assert torch.equal(holes[:, :2], state[:, :2])
    gone = holes[:, 2:] == 0
    assert torch.equal(gone.any(1), gone.all(1))
    shares = gone.float().flatten(1).mean(1)
    assert shares.min() > 0.01
    assert shares.max() < 0.8
    assert len(set(shares.tolist())) == 3

    noisy = damaged(state, slice(2, 5), PersistSettings(noise=0.3), [1, 2, 3]) - state
    assert not noisy[:, :2].any()
    assert noisy[:, 2:].std() == pytest.approx(0.3, rel=0.1)
    assert not torch.equal(noisy[0], noisy[1])
    assert torch.equal(damaged(state, slice(2, 5), PersistSettings(), [1, 2, 3]), state)


def test_the_penalty_is_the_distance_from_the_state_before_the_damage() -> None:
    """The update rule is zero: nothing but the noise moves, and the first level begins with 0."""
    levels = [{"scale": 1, "steps": 1}]
    settings = {"chance": 1.0, "extra": 1, "noise": 0.5, "still": 2.0}
    still = outputs_of(model_of(levels=levels, zero=True, persist=settings))[0]
    assert still.state is not None
    moved = still.state[:, 1:].detach().abs().mean()
    assert penalty_of(still) == pytest.approx(2 * float(moved))
    assert penalty_of(still) == pytest.approx(2 * 0.5 * (2 / torch.pi) ** 0.5, rel=0.1)
    quiet = outputs_of(model_of(levels=levels, zero=True, persist={**settings, "noise": 0}))[0]
    assert penalty_of(quiet) == 0


def test_a_clock_is_neither_damaged_nor_penalised() -> None:
    """The update rule is zero: the clock alone moves, and it is told and not computed."""
    clock = {"kind": "sinusoidal", "period": 8, "channels": 4}
    settings = {"chance": 1.0, "extra": 2, "holes": 1.0, "noise": 0.5, "still": 1.0}
    model = model_of(levels=[{"scale": 1, "steps": 4}], zero=True, cell={"clock": clock})
    cell, state, fire = one_level(model, 0)
    some = PersistSettings(**settings)
    older = [grow_older(model.engine, cell, state, 4, fire, some, s, 0) for s in range(8)]
    kept = [one for one in older if one.kept is not None]
    assert kept
    for one in kept:
        shown = with_clock(cell, one.state, one.fire.first_step)
        assert torch.equal(one.state[:, -4:], shown[:, -4:])
        # Zero but for the noise is all that was there; another time of the clock costs nothing.
        later = with_clock(cell, one.state, one.fire.first_step + 3)
        assert not torch.equal(later, one.state)
        assert one.unrest(later) == one.unrest(one.state)


def test_extra_steps_do_not_stop_early() -> None:
    """Every drawn step is taken, and the fire mask goes on where they end."""
    stop = {"tolerance": 1e9, "least": 1}
    levels = [{"scale": 1, "steps": 4}]
    both = [model_of(levels=levels, cell=cell) for cell in ({"stop": stop}, {})]
    settings = PersistSettings(chance=1.0, extra=3)
    found = []
    for model in both:
        cell, state, fire = one_level(model, 0)
        found.append(grow_older(model.engine, cell, state, 4, fire, settings, 2, 0))
    assert found[0].fire.first_step == found[1].fire.first_step > 1
    torch.testing.assert_close(found[0].state, found[1].state)


def test_extra_steps_grow_from_the_beginning_to_the_middle_of_what_is_left() -> None:
    half = PersistSettings(extra=4, begin=0.5)
    assert [half.reach(p) for p in (0, 0.5, 0.625, 0.75, 1)] == [0, 0, 2, 4, 4]
    assert [PersistSettings(extra=3).reach(p) for p in (0, 0.25, 0.5, 1)] == [0, 1.5, 3, 3]
    levels = [{"scale": 1, "steps": 4}]
    model, plain = (model_of(levels=levels, persist=p) for p in ({"chance": 1.0}, None))
    views = cut_views(torch.rand(1, 1, 12, 12), model.views, 0)
    begun = [model.training_outputs(views, 0, extra=e)[0].logits for e in (0.0, 0.01, 3.0)]
    assert torch.equal(begun[0], plain.training_outputs(views, 0)[0].logits)
    assert not any(torch.equal(begun[0], later) for later in begun[1:])


def test_young_states_may_still_move() -> None:
    model = model_of(levels=[{"scale": 1, "steps": 4}])
    cell, state, fire = one_level(model, 0)
    settings = PersistSettings(chance=1.0, extra=2, still=1.0)
    older = [grow_older(model.engine, cell, state, 4, fire, settings, s, 0) for s in range(30)]
    for one in older:
        assert (one.kept is None) == (one.fire.first_step < 4)
    ages = {one.fire.first_step for one in older}
    assert ages <= set(range(1, 9))
    assert len(ages) > 5


@pytest.mark.parametrize(
    "wrong",
    [{"chance": 0}, {"extra": 0}, {"extra": 101}, {"holes": 1.5}, {"still": -1}, {"hole": 1}],
)
def test_what_makes_no_sense_is_refused_by_name(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=f"persist.{next(iter(wrong))}"):
        model_of(persist=wrong)
