"""What is the CPU engine's own: threads, and what it refuses."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import torch

from medseg_nca.errors import ConfigError
from medseg_nca.nca import Fire
from medseg_nca.nca.engines import Engine, get_engine
from tests.nca.cells import make_cell, outcome

CPU: Engine = get_engine("cpu")


def test_bfloat16_is_not_for_training() -> None:
    with pytest.raises(ConfigError, match="bfloat16"):
        CPU.roll_out(make_cell(2), torch.rand(1, 5, 8, 8).bfloat16(), 1, Fire.for_batch(1, 0, 1))


@pytest.mark.parametrize("threads", [2, 3])
@pytest.mark.parametrize("norm", ["none", "batch"])
def test_gradients_do_not_depend_on_the_number_of_threads(threads: int, norm: str) -> None:
    cell = make_cell(3, channels=16, hidden=64, norm=norm, dtype=torch.float32)
    state = torch.randn(1, 16, 40, 12, 12)
    fire = Fire.for_batch(0.5, 0, 1)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = outcome(CPU, cell, state, 2, fire)
        torch.set_num_threads(threads)
        shared = outcome(CPU, cell, state, 2, fire)
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(alone, shared, strict=True))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_what_it_does_not_serve_is_refused_by_name(dtype: torch.dtype) -> None:
    cell = make_cell(2, dtype=torch.float32)
    with pytest.raises(ConfigError, match=str(dtype).removeprefix("torch.")):
        CPU.roll_out(cell, torch.zeros(1, 5, 4, 4, dtype=dtype), 1, Fire.for_batch(0.5, 0, 1))


def test_a_thread_that_fails_does_not_keep_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """The team ends, the error arrives, and the next roll-out works."""
    from medseg_nca.nca.kernels import run

    cell, fire = make_cell(3, channels=16, hidden=64), Fire.for_batch(0.5, 0, 1)
    state = torch.randn(1, 16, 24, 16, 16, dtype=torch.float64)
    before, real = torch.get_num_threads(), run.library

    class Failing:
        def __getattr__(self, name: str) -> Any:
            return getattr(real(), name)

        def roll(self, *arguments: Any) -> int:
            if threading.current_thread() is threading.main_thread():
                raise MemoryError("no room")
            return real().roll(*arguments)

    with torch.no_grad():
        expected = CPU.roll_out(cell, state, 4, fire)
        try:
            torch.set_num_threads(2)
            # Want of memory in one thread of a team cannot be brought about.
            with monkeypatch.context() as patch:
                patch.setattr(run, "library", Failing)
                with pytest.raises(MemoryError):
                    CPU.roll_out(cell, state, 4, fire)
            again = CPU.roll_out(cell, state, 4, fire)
        finally:
            torch.set_num_threads(before)
    assert torch.equal(again, expected)
