"""The GPU engine against the reference engine in float64: interpreted on the CPU, or on a GPU.

Without a GPU the kernels run in Triton's interpreter, which conftest.py asks for, on small grids.
On a GPU the same tests run compiled.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Any

import pytest
import torch
from torch import Tensor

from medseg_nca.errors import ConfigError, NonFiniteStateError
from medseg_nca.nca import Cell, Fire, roll_out
from medseg_nca.nca.engines import Engine, get_engine
from medseg_nca.nca.engines.auto import AutoEngine
from medseg_nca.nca.engines.base import Record
from tests.nca.cells import assert_agree, every_kernel, make_cell

REFERENCE = get_engine("reference")
TRITON = get_engine("triton")
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
pytestmark = pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed")


@dataclass(frozen=True)
class On(Engine):
    """The GPU engine for tensors of the CPU, computed on some device."""

    device: str

    def roll_out(
        self, cell: Cell, state: Tensor, steps: int, fire: Fire, record: Record | None = None
    ) -> Tensor:
        awake = None if fire.awake is None else fire.awake.to(self.device)
        there = [t.to(self.device) for t in (*cell.parameters(), *cell.buffers())]
        names = [n for n, _ in (*cell.named_parameters(), *cell.named_buffers())]

        class Moved(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.cell = cell

            def forward(self, state: Tensor) -> Tensor:
                return TRITON.roll_out(cell, state, steps, replace(fire, awake=awake), record)

        moved = {f"cell.{n}": t for n, t in zip(names, there, strict=True)}
        after = torch.func.functional_call(Moved(), moved, (state.to(self.device),))
        return after.to(state.device)


@pytest.fixture(params=["cpu", "cuda"])
def engine(request: pytest.FixtureRequest) -> Engine:
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("torch sees no GPU")
    if request.param == "cpu" and not INTERPRETED:
        pytest.skip("the kernels are compiled here, not interpreted")
    return TRITON if request.param == "cpu" else On("cuda")


def fire_of(batch: int, dims: int, rate: float = 0.5, mode: Any = "sample") -> Fire:
    return Fire.for_batch(rate, 7, batch, mode).advance(3).at((2, 1, 5)[:dims])


# Every kind of perception, padding, norm and activation, borders wider than the grid, channels and
# hidden units that are no powers of two; several tiles in the last of the quick ones.
QUICK: list[tuple[list[int], dict[str, Any]]] = [
    ([3, 4], {}),
    ([5, 3], {"kind": "conv", "filters": 2, "padding": "reflect", "activation": "silu"}),
    ([4, 6], {"kind": "sobel_laplace", "padding": "circular", "norm": "rms"}),
    ([2, 3], {"kernel": 7, "padding": "reflect", "norm": "rms"}),
    ([1, 4], {"kernel": 5, "padding": "circular", "channels": 19, "activation": "gelu"}),
    ([3, 2, 4], {"filters": 2, "padding": "zero", "hidden": 34, "activation": "leaky_relu"}),
    ([4, 3, 2], {"padding": "reflect", "norm": "batch", "activation": "relu"}),
    ([2, 5, 3], {"padding": "circular", "norm": "rms", "activation": "silu"}),
    ([30, 37], {"padding": "reflect", "kind": "laplace", "norm": "batch"}),
]
SLOW: list[tuple[list[int], dict[str, Any]]] = [
    ([4, 3, 5], {"kind": "conv", "padding": "circular", "filters": 2, "norm": "batch"}),
    ([3, 2, 4], {"kernel": 5, "padding": "reflect", "norm": "rms"}),
    ([3, 1, 2], {"kernel": 7, "padding": "zero"}),
    ([2, 3, 2], {"kernel": 7, "padding": "circular", "channels": 2, "hidden": 1}),
    ([9, 11, 8], {"padding": "reflect", "channels": 16, "hidden": 64, "norm": "rms"}),
    ([6, 7, 9], {"kind": "sobel", "padding": "zero", "channels": 31, "hidden": 65}),
]


@pytest.mark.parametrize(
    ("sizes", "settings"),
    [*QUICK, *(pytest.param(*s, marks=[pytest.mark.slow, every_kernel]) for s in SLOW)],
)
def test_values_and_gradients_are_those_of_the_reference(
    engine: Engine, sizes: list[int], settings: dict[str, Any]
) -> None:
    cell = make_cell(len(sizes), **settings)
    state = torch.randn(2, cell.channels, *sizes, dtype=torch.float64)
    assert_agree(REFERENCE, engine, cell, state, 2, fire_of(2, len(sizes)), 1e-9)


@pytest.mark.parametrize(("rate", "mode"), [(1.0, "sample"), (0.3, "mean"), (0.9, "sample")])
def test_cells_that_sleep(engine: Engine, rate: float, mode: str) -> None:
    cell, state = make_cell(2, padding="reflect"), torch.randn(2, 5, 4, 3, dtype=torch.float64)
    fire = replace(fire_of(2, 2, rate, mode), awake=torch.rand(2, 6, 4) < 0.5)
    assert_agree(REFERENCE, engine, cell, state, 2, fire, 1e-9)


def test_the_same_cells_fire_bit_for_bit(engine: Engine) -> None:
    cell, state = make_cell(3, kernel=1, dtype=torch.float32), torch.randn(2, 5, 20, 9, 7)
    fire = Fire.for_batch(0.3, 11, 2).advance(4).at((5, 1, 2))
    with torch.inference_mode():
        changed = (engine.roll_out(cell, state, 1, fire) != state).any(1)
    assert torch.equal(changed, fire.mask(fire.positions((20, 9, 7), state.device), 0))


def test_single_precision_agrees_within_rounding(engine: Engine) -> None:
    cell = make_cell(2, channels=16, hidden=64, norm="rms", dtype=torch.float32)
    with torch.no_grad():  # so that a step does not amplify the rounding of the one before
        cell.update.output.weight.mul_(0.1)
    assert_agree(REFERENCE, engine, cell, torch.randn(2, 16, 7, 9), 3, fire_of(2, 2), 1e-4)


def test_a_mean_far_from_zero_costs_no_digits(engine: Engine) -> None:
    cell = make_cell(2, kernel=1, channels=16, hidden=64, norm="batch", dtype=torch.float32)
    with torch.no_grad():
        cell.update.hidden.bias.add_(300)
        cell.update.output.weight.mul_(0.1)
        state = torch.randn(1, 16, 40, 41)
        actual = engine.roll_out(cell, state, 3, fire_of(1, 2))
        exact = REFERENCE.roll_out(cell.double(), state.double(), 3, fire_of(1, 2))
    assert (actual - exact).abs().max() < 1e-4 * exact.abs().max()


def test_bfloat16_is_rounded_after_every_step(engine: Engine) -> None:
    cell = make_cell(2, channels=7, hidden=20, norm="rms", dtype=torch.float32)
    state, steps = torch.rand(1, 7, 19, 21), [[], []]
    with torch.no_grad():
        for one, seen in zip((REFERENCE, engine), steps, strict=True):
            one.roll_out(cell, state.bfloat16(), 3, fire_of(1, 2), seen.append)
    for expected, actual in zip(*steps, strict=True):
        same = expected.float() == actual.float().cpu()
        # Where a sum lies next to the middle of two numbers, the order of summing decides.
        assert same.float().mean() > 0.99
        assert torch.allclose(expected.float(), actual.float().cpu(), rtol=2**-6, atol=1e-3)


def test_autocast_takes_products_of_bfloat16(engine: Engine) -> None:
    cell, device = make_cell(2, channels=16, hidden=64, dtype=torch.float32), "cpu"
    device = engine.device if isinstance(engine, On) else device
    state, fire = torch.rand(1, 16, 9, 7), fire_of(1, 2)
    exact = engine.roll_out(cell, state, 1, fire)
    with torch.autocast(device, torch.bfloat16):
        coarse = engine.roll_out(cell, state, 1, fire)
        torch.autograd.grad(coarse.sum(), [*cell.parameters()])
    assert coarse.dtype == torch.float32
    error = (coarse - exact).abs().max() / exact.abs().max()
    assert 1e-5 < error < 3e-2


def test_gradients_are_the_same_every_time(engine: Engine) -> None:
    cell, state = make_cell(2, dtype=torch.float32), torch.randn(2, 5, 30, 31)
    runs = []
    for _ in range(2):
        after = engine.roll_out(cell, state, 1, fire_of(2, 2))
        runs.append(torch.autograd.grad(after.square().sum(), [*cell.parameters()]))
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))


def test_checkpoints_change_nothing(engine: Engine) -> None:
    cell, fire, results = make_cell(2), Fire.for_batch(0.5, 0, 1), []
    for every in (None, 2):
        state = torch.ones(1, 5, 3, 4, dtype=torch.float64, requires_grad=True)
        cell.zero_grad()
        roll_out(engine, cell, state, 3, fire, checkpoint=every).square().sum().backward()
        results.append([state.grad, *[p.grad for p in cell.parameters()]])
    for plain, recomputed in zip(*results, strict=True):
        torch.testing.assert_close(recomputed, plain)


@pytest.mark.parametrize("grad", [False, True])
def test_every_state_is_recorded(engine: Engine, grad: bool) -> None:
    cell, fire = make_cell(2), Fire.for_batch(0.5, 0, 1)
    state = torch.randn(1, 5, 4, 3, dtype=torch.float64)
    ours: list[Tensor] = []
    theirs: list[Tensor] = []
    with torch.set_grad_enabled(grad):
        engine.roll_out(cell, state, 3, fire, ours.append)
        REFERENCE.roll_out(cell, state, 3, fire, theirs.append)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a.cpu(), b)


def test_a_value_that_is_not_finite_is_found_in_any_tile(engine: Engine) -> None:
    state = torch.randn(1, 5, 30, 31)
    state[0, 0, 29, 30] = float("nan")
    with torch.no_grad(), pytest.raises(NonFiniteStateError) as found:
        engine.roll_out(make_cell(2, dtype=torch.float32), state, 3, fire_of(1, 2))
    assert found.value.step == 3  # the first one, counted from where the mask stands


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"channels": 33}, "cell.channels 33"),
        ({"hidden": 129}, "cell.update.hidden 129"),
        ({"kernel": 9}, "cell.perception.kernel 9"),
        ({"filters": 5}, "cell.perception.filters 5"),
        ({"kind": "conv", "filters": 5, "channels": 16}, "80 features of full convolutions"),
    ],
)
def test_what_no_kernel_is_written_for_is_refused_by_name(
    settings: dict[str, Any], named: str
) -> None:
    cell = make_cell(2, **settings)
    state = torch.zeros(1, cell.channels, 4, 4, dtype=torch.float64)
    with pytest.raises(ConfigError, match=named):
        TRITON.roll_out(cell, state, 1, Fire.for_batch(1, 0, 1))


def test_bfloat16_is_not_for_training() -> None:
    with pytest.raises(ConfigError, match="bfloat16"):
        TRITON.roll_out(make_cell(2), torch.rand(1, 5, 4, 4).bfloat16(), 1, Fire.for_batch(1, 0, 1))


def test_auto_never_takes_the_interpreter() -> None:
    state = torch.zeros(1, 5, 6, 7, dtype=torch.float64)
    assert AutoEngine().choose(make_cell(2), state) is get_engine("cpu")


def test_the_check_before_first_use_finds_agreement_and_names_a_difference() -> None:
    from medseg_nca.nca.gpu.available import checked_apart
    from medseg_nca.nca.gpu.proof import disagreement

    cpu = torch.device("cpu")
    assert disagreement(cpu, torch.float32, True, "ieee") is None
    # In the interpreter "bfloat16" products are wrong: it multiplies the bits as whole numbers.
    reason = checked_apart(cpu, torch.float32, False, "bfloat16")
    assert reason is not None
    assert "of a small roll-out" in reason


def test_a_check_that_fails_is_a_reason_and_no_error() -> None:
    from medseg_nca.nca.gpu.available import checked_apart

    reason = checked_apart(torch.device("cuda:99"), torch.float32, False, "tf32x3")
    assert reason is not None
    assert "failed" in reason or "ended with code" in reason


def test_nothing_of_triton_is_imported_without_need() -> None:
    program = (
        "import sys, torch\n"
        "from medseg_nca.nca import Fire\n"
        "from medseg_nca.nca.engines import ENGINES, get_engine\n"
        "from tests.nca.cells import make_cell\n"
        "list(ENGINES.usable())\n"
        "state = torch.zeros(1, 5, 6, 7, dtype=torch.float64)\n"
        "get_engine('auto').roll_out(make_cell(2), state, 1, Fire.for_batch(0.5, 0, 1))\n"
        "assert 'triton' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
