"""Every engine against the reference: values, gradients, masks, and what it refuses.

The suite runs for each engine that is registered, also for those of installed packages: who writes
an engine runs it with the package installed.
"""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from medseg_nca.config.model import CellSettings, PerceptionSettings, UpdateSettings
from medseg_nca.errors import ConfigError, NonFiniteStateError
from medseg_nca.nca import Cell, Fire, roll_out
from medseg_nca.nca.engines import ENGINES, Engine, get_engine
from tests.nca.cells import LEARNED, assert_agree, make_cell

REFERENCE: Engine = get_engine("reference")
# "auto" computes nothing itself.
every_engine = pytest.mark.parametrize(
    "engine",
    [
        pytest.param(engine, id=name)
        for name, engine in ENGINES.usable()
        if name not in {"auto", "reference"} and "cpu" in (engine.devices or ("cpu",))
    ],
)
# Where the kernels of "triton" are interpreted they serve CPU tensors; see also test_triton.py.
every_name = pytest.mark.parametrize(
    "name",
    [
        name
        for name, engine in ENGINES.usable()
        if engine.refuses(make_cell(2), torch.zeros(1, 5, 3, 3)) is None
        and engine.unusable(torch.zeros(1, 5, 3, 3)) is None
    ],
)


@every_engine
@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 9), min_size=2, max_size=3),
    kind=st.sampled_from(["depthwise", "conv", "sobel", "laplace", "sobel_laplace"]),
    kernel=st.sampled_from([1, 3, 5, 7]),
    filters=st.integers(1, 3),
    padding=st.sampled_from(["zero", "reflect", "circular"]),
    norm=st.sampled_from(["none", "rms", "batch"]),
    activation=st.sampled_from(["relu", "leaky_relu", "gelu", "silu"]),
    channels=st.integers(2, 19),
    hidden=st.integers(1, 34),
    batch=st.integers(1, 3),
    rate=st.sampled_from([0.1, 0.5, 0.9, 1.0]),
    mode=st.sampled_from(["sample", "mean"]),
    awake=st.sampled_from([None, 0.0, 0.4]),
    dilation=st.sampled_from([1, 1, 2, 3]),
)
@example([40, 3, 5], "depthwise", 3, 1, "reflect", "rms", "relu", 16, 64, 2, 0.5, "sample", None, 1)
@example([33, 200], "conv", 3, 2, "reflect", "none", "relu", 16, 32, 1, 0.5, "sample", None, 2)
@example(
    [20, 9, 11], "depthwise", 3, 1, "reflect", "batch", "relu", 16, 64, 2, 0.5, "sample", None, 1
)
@example([19, 6, 7], "depthwise", 7, 1, "circular", "rms", "silu", 4, 8, 1, 0.5, "sample", None, 1)
def test_values_and_gradients_are_those_of_the_reference(
    engine: Engine,
    sizes: list[int], kind: str, kernel: int, filters: int, padding: str, norm: str,
    activation: str, channels: int, hidden: int, batch: int, rate: float, mode: Any,
    awake: float | None, dilation: int,
) -> None:  # fmt: skip
    cell = make_cell(
        len(sizes), kind, channels=channels, hidden=hidden, kernel=kernel, filters=filters,
        padding=padding, norm=norm, activation=activation, dilation=dilation,
    )  # fmt: skip
    state = torch.randn(batch, channels, *sizes, dtype=torch.float64)
    fire = Fire.for_batch(rate, 7, batch, mode)
    if awake is not None:
        fire = replace(fire, awake=torch.rand(batch, *sizes) < awake)
    assume(engine.refuses(cell, state) is None)
    assert_agree(REFERENCE, engine, cell, state, 2, fire, 1e-9)


@every_engine
@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("kind", LEARNED)
def test_single_precision_agrees_within_rounding(engine: Engine, dims: int, kind: str) -> None:
    cell = make_cell(
        dims, kind, channels=16, hidden=64, norm="rms", activation="silu", dtype=torch.float32
    )
    with torch.no_grad():  # so that a step does not amplify the rounding of the one before
        cell.update.output.weight.mul_(0.1)
    state = torch.randn(2, 16, *(21, 17, 13)[:dims])
    assert_agree(REFERENCE, engine, cell, state, 4, Fire.for_batch(0.5, 3, 2), 1e-4)


@every_engine
@pytest.mark.parametrize(("dims", "kind"), [(2, "conv"), (3, "depthwise"), (2, "sobel")])
@pytest.mark.parametrize("padding", ["zero", "reflect"])
def test_bfloat16_is_rounded_after_every_step(
    engine: Engine, dims: int, kind: str, padding: str
) -> None:
    cell = make_cell(
        dims, kind, channels=7, hidden=20, padding=padding, norm="rms", dtype=torch.float32
    )
    state = torch.rand(2, 7, *(9, 11, 8)[:dims])
    fire = Fire.for_batch(0.5, 3, 2)
    steps = [[], []]
    with torch.no_grad():
        for one, seen in zip((REFERENCE, engine), steps, strict=True):
            one.roll_out(cell, state.bfloat16(), 3, fire, seen.append)
        exact = engine.roll_out(cell, state, 3, fire)
    for expected, actual in zip(*steps, strict=True):
        same = expected.float() == actual.float()
        # Where a sum lies next to the middle of two numbers, the order of summing decides.
        assert same.float().mean() > 0.99
        assert torch.allclose(expected.float(), actual.float(), rtol=2**-6, atol=1e-3)
        assert expected.dtype == actual.dtype == torch.bfloat16
    last = steps[1][-1].float()
    assert 0 < (last - exact).abs().max() < 0.2 * exact.abs().max()


@every_name
@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float64])
@torch.no_grad()
def test_a_bfloat16_state_takes_weights_of_any_precision(name: str, kind: torch.dtype) -> None:
    cell = make_cell(2, dtype=torch.float32)
    state, fire = torch.rand(1, 5, 8, 9).bfloat16(), Fire.for_batch(0.5, 0, 1)
    engine = get_engine(name)
    expected = engine.roll_out(cell, state, 2, fire)
    assert torch.equal(engine.roll_out(cell.to(kind), state, 2, fire), expected)


@every_engine
@pytest.mark.parametrize(("dims", "kind"), [(2, "depthwise"), (3, "depthwise"), (2, "conv")])
def test_gradcheck(engine: Engine, dims: int, kind: str) -> None:
    cell = make_cell(dims, kind, channels=3, hidden=4, padding="reflect", norm="rms",
                     activation="silu")  # fmt: skip
    state = torch.randn(1, 3, *(3, 2, 3)[:dims], dtype=torch.float64, requires_grad=True)
    weights = tuple(cell.parameters())
    fire = Fire.for_batch(0.6, 0, 1)

    def run(state: Tensor, *_: Tensor) -> Tensor:
        return engine.roll_out(cell, state, 2, fire)

    assert torch.autograd.gradcheck(run, (state, *weights))


@every_engine
@pytest.mark.parametrize("grad", [False, True])
def test_batch_statistics_of_single_precision(engine: Engine, grad: bool) -> None:
    cell = make_cell(3, channels=16, hidden=64, norm="batch", dtype=torch.float32)
    with torch.no_grad():  # a mean far from zero, which loses digits in a sum of squares
        cell.update.hidden.bias.add_(300)
        cell.update.output.weight.mul_(0.1)
    state, fire = torch.randn(1, 16, 20, 21, 22), Fire.for_batch(0.5, 3, 1)
    with torch.set_grad_enabled(grad):
        actual = engine.roll_out(cell, state, 3, fire)
    exact = REFERENCE.roll_out(cell.double(), state.double(), 3, fire)
    assert (actual - exact).abs().max() < 1e-4 * exact.abs().max()


@every_engine
def test_the_same_cells_fire(engine: Engine) -> None:
    cell = make_cell(3, dtype=torch.float32)
    state = torch.randn(2, 5, 20, 9, 7)
    fire = Fire.for_batch(0.3, 11, 2).advance(4).at((5, 1, 2))
    with torch.inference_mode():
        changed = (engine.roll_out(cell, state, 1, fire) != state).any(1)
    assert torch.equal(changed, fire.mask(fire.positions((20, 9, 7), state.device), 0))


@every_engine
@pytest.mark.parametrize("checkpoint", [1, 2, 5])
def test_checkpoints_change_nothing(engine: Engine, checkpoint: int) -> None:
    cell = make_cell(2)
    fire = Fire.for_batch(0.5, 0, 1)
    results = []
    for every in (None, checkpoint):
        state = torch.ones(1, 5, 6, 7, dtype=torch.float64, requires_grad=True)
        cell.zero_grad()
        roll_out(engine, cell, state, 5, fire, checkpoint=every).square().sum().backward()
        results.append([state.grad, *[p.grad for p in cell.parameters()]])
    for plain, recomputed in zip(*results, strict=True):
        torch.testing.assert_close(recomputed, plain)


@every_engine
@pytest.mark.parametrize("grad", [False, True])
def test_every_state_is_recorded(engine: Engine, grad: bool) -> None:
    cell, fire = make_cell(2), Fire.for_batch(0.5, 0, 1)
    state = torch.randn(1, 5, 6, 7, dtype=torch.float64)
    ours: list[Tensor] = []
    theirs: list[Tensor] = []
    with torch.set_grad_enabled(grad):
        engine.roll_out(cell, state, 4, fire, ours.append)
        REFERENCE.roll_out(cell, state, 4, fire, theirs.append)
    assert len(ours) == 4
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b)


@every_engine
def test_the_input_is_not_changed_and_no_steps_is_the_input(engine: Engine) -> None:
    cell, state = make_cell(2), torch.randn(1, 5, 6, 7, dtype=torch.float64)
    kept = state.clone()
    with torch.inference_mode():
        engine.roll_out(cell, state, 3, Fire.for_batch(0.5, 0, 1))
    assert torch.equal(state, kept)
    assert torch.equal(engine.roll_out(cell, state, 0, Fire.for_batch(0.5, 0, 1)), state)


@every_name
@pytest.mark.parametrize("grad", [False, True])
def test_a_state_that_overflows_is_named_with_its_step(name: str, grad: bool) -> None:
    """Each step multiplies the hidden channel by 1e20: 1, 1e20, then too large for float32."""
    perception = PerceptionSettings(kernel=1, bias=False)
    cell = Cell(
        CellSettings(channels=2, perception=perception, update=UpdateSettings(hidden=1)), 1, 2
    )
    with torch.no_grad():
        for parameter in cell.parameters():
            parameter.zero_()
        cell.update.hidden.weight[0, 1] = 1.0
        cell.update.output.weight.fill_(1e20)
    state = torch.ones(1, 2, 3, 3)
    with (
        torch.set_grad_enabled(grad),
        pytest.raises(NonFiniteStateError, match="after step 2") as e,
    ):
        get_engine(name).roll_out(cell, state, 5, Fire.for_batch(1.0, 0, 1))
    assert e.value.step == 1


@every_engine
def test_memory_of_inference_mode_is_used_again_outside_of_it(engine: Engine) -> None:
    cell, fire = make_cell(2), Fire.for_batch(0.5, 0, 1)
    state = torch.randn(1, 9, 11, 5, dtype=torch.float64).movedim(-1, 1)  # not contiguous
    with torch.inference_mode():
        expected = engine.roll_out(cell, state, 2, fire)
    with torch.no_grad():
        assert torch.equal(engine.roll_out(cell, state, 2, fire), expected)


@every_engine
def test_memory_that_is_used_again_leaves_no_trace(engine: Engine) -> None:
    """Padded arrays of one size, 12 x 12, for grids of 10 and 8 cells; and after an overflow."""
    fire = Fire.for_batch(0.5, 0, 1)
    near, far = make_cell(2, kernel=3), make_cell(2, kernel=5)
    small = torch.randn(1, 5, 8, 8, dtype=torch.float64)
    large = torch.randn(1, 5, 10, 10, dtype=torch.float64)
    with torch.inference_mode():
        expected = REFERENCE.roll_out(near, large, 3, fire)
        also = REFERENCE.roll_out(far, small, 3, fire)
        first = engine.roll_out(near, large, 3, fire)
        with pytest.raises(NonFiniteStateError):
            engine.roll_out(near, large * float("inf"), 3, fire)
    with torch.no_grad():
        torch.testing.assert_close(engine.roll_out(far, small, 3, fire), also)
        torch.testing.assert_close(engine.roll_out(near, large, 3, fire), expected)
    torch.testing.assert_close(first, expected)


@every_engine
def test_who_records_may_run_the_engine(engine: Engine) -> None:
    cell, fire = make_cell(2), Fire.for_batch(0.5, 0, 1)
    state = torch.randn(1, 5, 6, 7, dtype=torch.float64)
    with torch.no_grad():
        plain = engine.roll_out(cell, state, 3, fire)
        nested = engine.roll_out(cell, state, 3, fire, lambda s: engine.roll_out(cell, s, 2, fire))
    assert torch.equal(nested[0], plain[0])


@every_engine
@pytest.mark.parametrize("batch", [1, 3])
def test_memory_order_of_the_input_does_not_matter(engine: Engine, batch: int) -> None:
    cell, fire = make_cell(3), Fire.for_batch(0.5, 0, batch)
    state = torch.randn(batch, 5, 9, 4, 6, dtype=torch.float64)
    spread = state.to(memory_format=torch.channels_last_3d)
    with torch.no_grad():
        assert torch.equal(
            engine.roll_out(cell, state, 3, fire), engine.roll_out(cell, spread, 3, fire)
        )


@every_name
@pytest.mark.parametrize(
    ("shape", "seeds", "awake", "named"),
    [
        ((1, 5, 4, 4, 4), 1, None, "state"),
        ((1, 4, 4, 4), 1, None, "state"),
        ((2, 5, 4, 4), 1, None, "seeds"),
        ((1, 5, 4, 4), 1, torch.ones(1, 3, 4, dtype=torch.bool), "awake"),
        ((1, 5, 4, 4), 1, torch.ones(1, 4, 4), "awake"),
    ],
)
def test_shapes_that_do_not_belong_together_are_refused(
    name: str, shape: tuple[int, ...], seeds: int, awake: Tensor | None, named: str
) -> None:
    cell = make_cell(2)
    fire = replace(Fire.for_batch(0.5, 0, seeds), awake=awake)
    with pytest.raises(ConfigError, match=named):
        get_engine(name).roll_out(cell, torch.zeros(shape, dtype=torch.float64), 1, fire)


@every_engine
def test_many_threads_of_python_at_once(engine: Engine) -> None:
    cell, fire = make_cell(3, channels=16, hidden=64), Fire.for_batch(0.5, 0, 1)
    state = torch.randn(1, 16, 24, 16, 16, dtype=torch.float64)
    before = torch.get_num_threads()

    def run(_: int) -> Tensor:
        with torch.no_grad():
            return engine.roll_out(cell, state, 4, fire)

    expected = run(0)
    try:
        torch.set_num_threads(3)
        with ThreadPoolExecutor(4) as pool:
            results = list(pool.map(run, range(12)))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(result, expected) for result in results)


def test_the_error_crosses_processes() -> None:
    error = pickle.loads(pickle.dumps(NonFiniteStateError(3, 1)))
    assert (error.step, error.level) == (3, 1)
    assert "step 4 of level 1" in str(error)


@every_engine
def test_weights_that_change_are_seen(engine: Engine) -> None:
    cell, fire = make_cell(2), Fire.for_batch(0.5, 0, 1)
    state = torch.randn(1, 5, 6, 7, dtype=torch.float64)
    with torch.inference_mode():
        engine.roll_out(cell, state, 2, fire)
        for change in (1.5, 0.5):
            cell.update.output.weight.data.mul_(change)
            expected = REFERENCE.roll_out(cell, state, 2, fire)
            torch.testing.assert_close(engine.roll_out(cell, state, 2, fire), expected)
