"""The options of a cell: who lives, the clock, and stopping by itself, with every engine."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from medseg_nca.config.model import CellSettings, NcaModelSettings
from medseg_nca.errors import ConfigError, NonFiniteStateError
from medseg_nca.models import build_model
from medseg_nca.nca import Cell, Fire, roll_out
from medseg_nca.nca.engines import ENGINES, Engine, get_engine
from medseg_nca.nca.stepwise import around, clock_values, living, with_clock

REFERENCE = get_engine("reference")
every_engine = pytest.mark.parametrize(
    "engine",
    [
        pytest.param(engine, id=name)
        for name, engine in ENGINES.usable()
        if "cpu" in (engine.devices or ("cpu",))  # test_triton.py holds that of the GPU
    ],
)
ALIVE = {"channel": 0, "threshold": 0.1}


def make_cell(dims: int = 2, image: int = 0, channels: int = 4, **options: Any) -> Cell:
    """A cell that changes its state, in double precision."""
    padding, norm = options.pop("padding", "zero"), options.pop("norm", "none")
    perception = {"kind": "sobel", "padding": padding}
    settings = CellSettings(
        channels=channels, perception=perception, update={"hidden": 7, "norm": norm}, **options
    )
    torch.manual_seed(3)
    cell = Cell(settings, image, dims)
    torch.nn.init.normal_(cell.update.output.weight, std=0.1)
    return cell.double()


def by_hand(cell: Cell, state: Tensor, steps: int, fire: Fire, image: int = 0) -> Tensor:
    """Growing NCA as the article writes it: max-pool, step of all cells, max-pool, mask."""
    pool = {2: torch.nn.functional.max_pool2d, 3: torch.nn.functional.max_pool3d}[cell.dims]
    alpha = image + cell.settings.alive.channel  # type: ignore[union-attr]
    plain = Cell(CellSettings(**cell.settings.model_dump(exclude={"alive"})), image, cell.dims)
    plain.load_state_dict(cell.state_dict())
    for step in range(steps):
        before = pool(state[:, alpha : alpha + 1], 3, 1, 1) > 0.1
        state = REFERENCE.roll_out(plain.double(), state, 1, fire.advance(step))
        after = pool(state[:, alpha : alpha + 1], 3, 1, 1) > 0.1
        body = state[:, image:] * (before & after)
        state = torch.cat((state[:, :image], body), 1)
    return state


def test_who_lives_on_a_grid_of_five_by_five() -> None:
    """One cell of 0.5 lets its eight neighbours live; one of exactly 0.1 nobody."""
    cell = make_cell(alive=ALIVE)
    state = torch.zeros(1, 4, 5, 5, dtype=torch.float64)
    state[0, 0, 1, 1], state[0, 0, 4, 4], state[0, 1] = 0.5, 0.1, 9.0
    found = living(cell, state, cell.settings.alive)[0].int()  # type: ignore[arg-type]
    expected = [[1, 1, 1, 0, 0]] * 3 + [[0] * 5] * 2
    assert found.tolist() == expected


def test_beyond_the_border_of_a_circle_the_far_side_lives() -> None:
    cell = make_cell(alive=ALIVE, padding="circular")
    state = torch.zeros(1, 4, 5, 5, dtype=torch.float64)
    state[0, 0, 0, 0] = 1
    found = living(cell, state, cell.settings.alive)[0].int()  # type: ignore[arg-type]
    assert found.tolist() == [[1, 1, 0, 0, 1]] * 2 + [[0] * 5] * 2 + [[1, 1, 0, 0, 1]]


def test_a_cell_that_does_not_live_is_zero_after_a_step() -> None:
    """Nothing changes with an untrained rule: only the 3 x 3 around the living cell remains."""
    cell = make_cell(image=1, channels=5, alive=ALIVE)
    torch.nn.init.zeros_(cell.update.output.weight)
    state = torch.ones(1, 5, 5, 5, dtype=torch.float64)
    state[:, 1] = 0
    state[0, 1, 2, 2] = 1
    after = roll_out(REFERENCE, cell, state, 1, Fire.for_batch(1.0, 0, 1))
    ring = torch.zeros(5, 5, dtype=torch.float64)
    ring[1:4, 1:4] = 1
    assert torch.equal(after[0, 2], ring)
    assert torch.equal(after[0, 0], state[0, 0]), "the image is not touched"


@every_engine
@pytest.mark.parametrize(("dims", "image"), [(2, 0), (2, 2), (3, 1)])
def test_values_and_gradients_are_those_of_the_article(
    engine: Engine, dims: int, image: int
) -> None:
    cell = make_cell(dims, image, channels=4 + image, alive=ALIVE)
    state = torch.rand(2, 4 + image, *(7, 6, 5)[:dims], dtype=torch.float64)
    state[:, image] -= 0.8  # a few cells live
    fire = Fire.for_batch(0.5, 7, 2)
    ours, theirs = state.clone().requires_grad_(), state.clone().requires_grad_()
    after = roll_out(engine, cell, ours, 4, fire)
    after.square().sum().backward()  # type: ignore[no-untyped-call]
    grads = [p.grad.clone() for p in cell.parameters()]  # type: ignore[union-attr]
    expected = by_hand(cell, theirs, 4, fire, image)
    expected.square().sum().backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(after, expected, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-9, atol=1e-9)
    assert 0 < int((after[:, image:] == 0).all(1).sum()) < after[:, 0].numel()
    assert all(float(g.abs().max()) > 0 for g in grads)


@every_engine
def test_gradients_of_the_weights_agree_with_the_reference(engine: Engine) -> None:
    cell = make_cell(alive=ALIVE, channels=6, clock={"kind": "sinusoidal", "channels": 2})
    state = torch.rand(2, 6, 8, 7, dtype=torch.float64)
    state[:, 0] -= 0.8
    found = []
    for one in (engine, REFERENCE):
        cell.zero_grad()
        roll_out(one, cell, state, 5, Fire.for_batch(0.6, 1, 2), checkpoint=2).sum().backward()  # type: ignore[no-untyped-call]
        found.append([p.grad.clone() for p in cell.parameters()])  # type: ignore[union-attr]
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-9)


@every_engine
@pytest.mark.parametrize("padding", ["zero", "reflect", "circular"])
@pytest.mark.parametrize("norm", ["none", "rms", "batch"])
@pytest.mark.parametrize("rate", [0.5, 1.0])
def test_all_steps_at_once_are_those_one_by_one(
    engine: Engine, padding: str, norm: str, rate: float
) -> None:
    """An engine may take several steps at once; the reference takes each on its own."""
    clock = {"period": 3}
    cell = make_cell(2, 1, 6, padding=padding, norm=norm, alive=ALIVE, clock=clock)
    state = torch.rand(2, 6, 7, 8, dtype=torch.float64)
    state[:, 1] -= 0.75
    fire, outcomes = Fire.for_batch(rate, 3, 2).advance(2), []
    for one in (engine, REFERENCE):
        leaf = state.clone().requires_grad_()
        cell.zero_grad()
        after = roll_out(one, cell, leaf, 5, fire)
        (after * torch.linspace(-1, 1, after.numel()).view_as(after)).sum().backward()  # type: ignore[no-untyped-call]
        with torch.no_grad():
            seen: list[Tensor] = []
            plain = roll_out(one, cell, state, 5, fire, record=seen.append)
        grads = [p.grad.clone() for p in cell.parameters()]  # type: ignore[union-attr]
        assert leaf.grad is not None
        outcomes.append([after.detach(), plain, torch.stack(seen), leaf.grad, *grads])
    # A batch norm takes the gradient of what is added before it away: rounding is left.
    least = max(float(t.abs().max()) for t in outcomes[1]) if norm == "batch" else 0.0
    for ours, theirs in zip(*outcomes, strict=True):
        scale = max(float(theirs.abs().max()), least)
        torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-8 * scale)
    assert 0.1 < float((plain[:, 1] != 0).float().mean()) < 1


@torch.no_grad()
@pytest.mark.parametrize("dims", [2, 3])
def test_tiles_give_the_result_of_the_whole_with_living_cells_too(dims: int) -> None:
    cell = make_cell(dims, alive=ALIVE, clock={"period": 4})
    state = torch.rand(1, 4, *(17, 13, 9)[:dims], dtype=torch.float64)
    state[:, 0] -= 0.9
    fire = Fire.for_batch(0.5, 2, 1)
    whole = roll_out(REFERENCE, cell, state, 5, fire)
    tiled = roll_out(REFERENCE, cell, state, 5, fire, tile=(5,) * dims)
    torch.testing.assert_close(tiled, whole, rtol=1e-9, atol=1e-12)


def test_the_clock_shows_which_step_comes_next() -> None:
    share = make_cell(clock={"period": 4})
    settings = share.settings.clock
    assert settings is not None
    assert [clock_values(settings, step) for step in (0, 1, 4, 9)] == [[0.0], [0.25], [1.0], [1.0]]
    waves = make_cell(clock={"kind": "sinusoidal", "period": 8, "channels": 2}).settings.clock
    assert waves is not None
    assert clock_values(waves, 2) == pytest.approx([1.0, 0.0], abs=1e-12)
    seen: list[float] = []
    state = torch.rand(1, 4, 3, 3, dtype=torch.float64)
    fire = Fire.for_batch(0.5, 0, 1)
    with torch.no_grad():
        roll_out(
            REFERENCE, share, state, 3, fire, record=lambda s: seen.append(float(s[0, 3, 0, 0]))
        )
    assert seen == [0.25, 0.5, 0.75]
    assert torch.equal(with_clock(share, state, 2)[:, 3], torch.full((1, 3, 3), 0.5).double())


@torch.no_grad()
def test_a_roll_out_goes_on_where_another_ended() -> None:
    cell = make_cell(alive=ALIVE, clock={"period": 6})
    state = torch.rand(1, 4, 6, 6, dtype=torch.float64)
    fire = Fire.for_batch(0.5, 4, 1)
    half = roll_out(REFERENCE, cell, state, 3, fire)
    parts = roll_out(REFERENCE, cell, half, 3, fire.advance(3))
    assert torch.equal(parts, roll_out(REFERENCE, cell, state, 6, fire))


@every_engine
@torch.no_grad()
def test_a_sample_stops_by_itself_and_the_others_go_on(engine: Engine) -> None:
    """The first sample is all zeros, of which this rule makes nothing."""
    cell = make_cell(stop={"tolerance": 1e-3})
    torch.nn.init.zeros_(cell.update.hidden.bias)
    state = torch.stack((torch.zeros(4, 5, 5), torch.rand(4, 5, 5))).double()
    told: list[tuple[int, ...]] = []
    engine = around(engine, cell.settings, told.append)
    fire = Fire.for_batch(0.5, 0, 2)
    after = engine.roll_out(cell, state, 6, fire)
    assert told == [(1, 6)]
    alone = get_engine("reference").roll_out(cell, state, 6, fire)
    torch.testing.assert_close(after, alone, rtol=1e-9, atol=1e-12)


def test_it_stops_at_least_after_so_many_steps_and_never_in_training() -> None:
    cell = make_cell(stop={"tolerance": 1e9, "least": 3})
    told: list[tuple[int, ...]] = []
    engine = around(REFERENCE, cell.settings, told.append)
    state, fire = torch.rand(1, 4, 5, 5).double(), Fire.for_batch(0.5, 0, 1)
    engine.roll_out(cell, state, 6, fire)
    with torch.no_grad():
        engine.roll_out(cell, state, 6, fire)
    assert told == [(6,), (3,)]


def test_a_cell_without_options_is_left_to_its_engine() -> None:
    assert around(REFERENCE, CellSettings()) is REFERENCE


@every_engine
def test_the_step_of_a_state_that_is_not_finite_is_named(engine: Engine) -> None:
    cell = make_cell(alive=ALIVE).float()
    with torch.no_grad():
        cell.update.output.weight.fill_(1e25)
    state = torch.rand(1, 4, 5, 5) + 1
    with torch.no_grad(), pytest.raises(NonFiniteStateError) as caught:
        roll_out(engine, cell, state, 9, Fire.for_batch(1.0, 0, 1).advance(10))
    assert caught.value.step in (11, 12)


def test_files_say_nothing_of_options_that_are_off() -> None:
    assert not {"alive", "clock", "stop"} & set(CellSettings().model_dump())
    on = CellSettings(clock={"period": 3})
    assert CellSettings.model_validate(on.model_dump(mode="json")) == on


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"alive": {"channel": 16}}, "alive.channel must be 0 to 15"),
        ({"clock": {"kind": "sinusoidal", "channels": 3}}, "pairs"),
        ({"clock": {"channels": 2}}, "share takes 1"),
        ({"stop": {"tolerance": 0}}, "tolerance"),
        ({"channels": 2, "clock": {"kind": "sinusoidal", "channels": 2}}, "leaves none"),
    ],
)
def test_options_that_do_not_fit_are_refused(options: dict[str, Any], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        CellSettings(**options)


def test_the_image_must_leave_room_for_the_options() -> None:
    with pytest.raises(ConfigError, match=r"alive\.channel is 3"):
        Cell(CellSettings(channels=5, alive={"channel": 3}), 2, 2)
    with pytest.raises(ConfigError, match="nothing is left"):
        Cell(CellSettings(channels=3, clock={}), 2, 2)


def segmentation(**cell: Any) -> NcaModelSettings:
    """A small model of one level."""
    return NcaModelSettings(
        name="x", dims=2, in_channels=1, out_channels=2, cell={"channels": 6, **cell},
        levels=[{"steps": 5}],
    )  # fmt: skip


def test_a_segmentation_refuses_living_cells_and_focus_refuses_what_it_cannot_do() -> None:
    with pytest.raises(ConfigError, match="nothing would ever live"):
        build_model(segmentation(alive={"channel": 2}))
    with pytest.raises(ValueError, match=r"cell\.stop needs all of it"):
        NcaModelSettings(name="x", focus={}, cell={"stop": {"tolerance": 1}})


def test_a_segmentation_trains_with_a_clock_and_stops_by_itself() -> None:
    model = build_model(segmentation(clock={"period": 5}, stop={"tolerance": 1e9}))
    torch.manual_seed(0)
    torch.nn.init.normal_(model.cells[0].update.output.weight, std=0.3)  # type: ignore[index, union-attr]
    image, states = torch.rand(1, 1, 8, 8), []
    from medseg_nca.models.base import RunOptions
    from medseg_nca.models.views import cut_views

    outputs = model.training_outputs(cut_views(image, model.views, seed=0), seed=0)
    outputs[0].logits.sum().backward()  # type: ignore[no-untyped-call]
    assert all(p.grad is not None for p in model.parameters())
    with torch.inference_mode():
        model(image, RunOptions(record=lambda level, state: states.append(state)))
    assert len(states) == 1
