"""Cell and roll-out: a step by hand, tiles, checkpoints, seeds, odd sizes."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medseg_nca.config.model import CellSettings, PerceptionSettings, UpdateSettings
from medseg_nca.errors import ConfigError
from medseg_nca.nca import Cell, Fire, roll_out
from medseg_nca.nca.engines import ENGINES, Engine, get_engine

# The reference, which defines a step, among them.
every_engine = pytest.mark.parametrize(
    "engine",
    [
        pytest.param(engine, id=name)
        for name, engine in ENGINES.usable()
        if "cpu" in (engine.devices or ("cpu",))  # test_triton.py holds that of the GPU
    ],
)


def make_cell(dims: int = 2, *, image: int = 1, channels: int = 4, **options: object) -> Cell:
    """A cell whose update rule is not zero."""
    update = UpdateSettings(hidden=8, norm=options.pop("norm", "none"))  # type: ignore[arg-type]
    perception = PerceptionSettings(**options)  # type: ignore[arg-type]
    cell = Cell(CellSettings(channels=channels, perception=perception, update=update), image, dims)
    torch.nn.init.normal_(cell.update.output.weight, std=0.3)
    return cell


def state_of(cell: Cell, sizes: Sequence[int], batch: int = 1) -> torch.Tensor:
    return torch.randn(batch, cell.channels, *sizes)


@every_engine
def test_one_step_by_hand(engine: Engine) -> None:
    """Channels (image 2, hidden 3); the filter copies the cell; relu(2 + 3 + 2 + 3) * 0.5 = 5."""
    perception = PerceptionSettings(kind="depthwise", kernel=1, bias=False)
    cell = Cell(
        CellSettings(channels=2, perception=perception, update=UpdateSettings(hidden=1)), 1, 2
    )
    with torch.no_grad():
        cell.perception.weight.fill_(1.0)
        cell.update.hidden.weight.fill_(1.0)
        cell.update.hidden.bias.zero_()
        cell.update.output.weight.fill_(0.5)
    state = torch.tensor([2.0, 3.0]).view(1, 2, 1, 1)
    after = engine.roll_out(cell, state, 1, Fire.for_batch(1.0, 0, 1))
    assert after.flatten().tolist() == [2.0, 8.0]
    mean = engine.roll_out(cell, state, 1, Fire.for_batch(0.25, 0, 1, "mean"))
    assert mean.flatten().tolist() == [2.0, 4.25]


@every_engine
def test_an_untrained_cell_does_nothing(engine: Engine) -> None:
    cell = Cell(CellSettings(channels=6), 2, 3)
    state = state_of(cell, (4, 5, 3))
    assert torch.equal(roll_out(engine, cell, state, 5, Fire.for_batch(0.5, 0, 1)), state)


@every_engine
def test_the_image_never_drifts(engine: Engine) -> None:
    cell = make_cell(3, image=2, channels=5)
    state = state_of(cell, (4, 5, 3))
    after = roll_out(engine, cell, state, 9, Fire.for_batch(0.5, 0, 1))
    assert torch.equal(after[:, :2], state[:, :2])
    assert not torch.equal(after[:, 2:], state[:, 2:])


@every_engine
def test_only_cells_that_fire_change(engine: Engine) -> None:
    cell, fire = make_cell(2), Fire.for_batch(0.3, 5, 2)
    state = state_of(cell, (7, 6), batch=2)
    after = roll_out(engine, cell, state, 1, fire)
    changed = (after != state).any(1)
    assert torch.equal(changed, fire.mask(fire.positions((7, 6), state.device), 0))


@every_engine
@settings(max_examples=20)
@given(
    sizes=st.lists(st.integers(1, 6), min_size=2, max_size=3),
    padding=st.sampled_from(["zero", "reflect", "circular"]),
    kind=st.sampled_from(["depthwise", "conv", "sobel", "laplace"]),
    norm=st.sampled_from(["none", "rms", "batch"]),
    batch=st.integers(1, 3),
)
def test_any_size_and_setting(
    engine: Engine, sizes: list[int], padding: str, kind: str, norm: str, batch: int
) -> None:
    cell = make_cell(len(sizes), padding=padding, kind=kind, norm=norm)
    state = state_of(cell, sizes, batch)
    after = roll_out(engine, cell, state, 3, Fire.for_batch(0.5, 1, batch))
    assert after.shape == state.shape
    assert torch.isfinite(after).all()


@every_engine
def test_a_sample_does_not_depend_on_its_batch(engine: Engine) -> None:
    cell = make_cell(2)
    state = state_of(cell, (6, 7), batch=3)
    fire = Fire.for_batch(0.5, 4, 3)
    together = roll_out(engine, cell, state, 4, fire)
    alone = roll_out(engine, cell, state[1:2], 4, Fire(0.5, fire.seeds[1:2]))
    torch.testing.assert_close(together[1:2], alone)


@every_engine
@settings(max_examples=25)
@given(
    sizes=st.lists(st.integers(3, 11), min_size=2, max_size=3),
    tile=st.integers(2, 5),
    kernel=st.sampled_from([3, 5]),
    padding=st.sampled_from(["zero", "reflect"]),
    steps=st.integers(0, 15),
)
def test_tiles_give_the_result_of_the_whole(
    engine: Engine, sizes: list[int], tile: int, kernel: int, padding: str, steps: int
) -> None:
    cell = make_cell(len(sizes), kernel=kernel, padding=padding)
    with torch.no_grad():
        cell.update.output.weight.mul_(0.2)
    state, fire = state_of(cell, sizes), Fire.for_batch(0.5, 3, 1)
    with torch.no_grad():
        whole = roll_out(engine, cell, state, steps, fire)
        parts = roll_out(engine, cell, state, steps, fire, tile=(tile,) * len(sizes))
    torch.testing.assert_close(parts, whole, rtol=1e-4, atol=1e-4)


@every_engine
@pytest.mark.parametrize("every", [1, 3, 10])
def test_checkpoints_change_no_gradient(engine: Engine, every: int) -> None:
    cell = make_cell(2, padding="reflect").double()
    state, fire = state_of(cell, (6, 5)).double(), Fire.for_batch(0.5, 3, 1)
    gradients = []
    for checkpoint in (None, every):
        cell.zero_grad()
        after = roll_out(engine, cell, state, 7, fire, checkpoint=checkpoint)
        after.square().sum().backward()
        gradients.append([p.grad.clone() for p in cell.parameters() if p.grad is not None])
    assert len(gradients[0]) == len(list(cell.parameters()))
    for kept, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(kept, recomputed)


@every_engine
def test_the_gradient_of_a_roll_out(engine: Engine) -> None:
    cell = make_cell(2, channels=3).double()
    state = state_of(cell, (3, 4)).double().requires_grad_()
    fire = Fire.for_batch(0.6, 3, 1)
    assert torch.autograd.gradcheck(lambda s: engine.roll_out(cell, s, 3, fire), (state,))


@every_engine
def test_states_are_recorded_after_every_step(engine: Engine) -> None:
    cell, states = make_cell(2), []
    state = state_of(cell, (3, 4))
    after = roll_out(engine, cell, state, 4, Fire.for_batch(0.5, 0, 1), record=states.append)
    assert len(states) == 4
    assert torch.equal(states[-1], after)


def test_an_unknown_engine_is_named() -> None:
    assert "reference" in ENGINES.names
    with pytest.raises(ConfigError, match="did you mean 'reference'"):
        get_engine("refrence")
