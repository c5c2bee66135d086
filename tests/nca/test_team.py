"""Threads that compute together, and roll-outs of several threads that share the cores."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from medseg_nca.errors import Interrupted
from medseg_nca.job import Job
from medseg_nca.nca import Fire
from medseg_nca.nca.engines import get_engine
from medseg_nca.nca.kernels.team import together
from tests.nca.cells import make_cell


@pytest.fixture(name="cores", params=[1, 2])
def cores_fixture(request: pytest.FixtureRequest) -> Iterator[int]:
    """How many cores the teams share."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize("cores", [1], indirect=True)
def test_teams_take_turns_in_the_order_in_which_they_came(cores: int) -> None:
    """One thread has the only core and wants it again at once; three others waited before it."""
    order: list[str] = []
    begun, go_on = threading.Event(), threading.Event()

    def hold(index: int, size: int) -> None:
        begun.set()
        assert go_on.wait(10)

    def greedy() -> None:
        together(hold, 2, [0])
        together(lambda index, size: order.append("greedy"), 2, [0])

    def patient(name: str) -> None:
        together(lambda index, size: order.append(name), 2, [0])

    threads = [threading.Thread(target=greedy)]
    threads[0].start()
    assert begun.wait(10)
    for name in ("first", "second", "third"):
        threads.append(threading.Thread(target=patient, args=(name,)))
        threads[-1].start()
        time.sleep(0.05)  # until it waits, which nobody outside can see
    assert order == []
    go_on.set()
    for thread in threads:
        thread.join(10)
    assert order == ["first", "second", "third", "greedy"]


def test_every_thread_is_served_and_results_are_those_of_one(cores: int) -> None:
    engine, cell = get_engine("cpu"), make_cell(2, channels=12, hidden=32)
    seeds = range(6)
    # A step of so many cells is shared: see team_size.
    generator = torch.Generator().manual_seed(0)
    state = torch.rand(1, 12, 64, 64, dtype=torch.float64, generator=generator)

    def roll_out(seed: int) -> torch.Tensor:
        with torch.no_grad():
            for _ in range(5):
                result = engine.roll_out(cell, state, 6, Fire.for_batch(0.5, seed, 1))
        return result

    alone = [roll_out(seed) for seed in seeds]
    with ThreadPoolExecutor(len(seeds)) as pool:
        shared = list(pool.map(roll_out, seeds, timeout=60))
    for one, other in zip(alone, shared, strict=True):
        assert torch.equal(one, other)


def test_a_team_that_fails_gives_its_cores_back(cores: int) -> None:
    def fail(index: int, size: int) -> None:
        raise ArithmeticError("oh")

    for _ in range(3):
        with pytest.raises(ArithmeticError):
            together(fail, 2, [0])
    assert len(together(lambda index, size: index, 2, [0])) == cores


@pytest.mark.parametrize("name", ["cpu", "reference"])
def test_who_cancels_a_job_ends_its_roll_out_in_the_middle(cores: int, name: str) -> None:
    """Of 80,000 steps in one call, which would take long, a few thousand are computed."""
    engine, cell, job = get_engine(name), make_cell(2, channels=12, hidden=32), Job()
    state = torch.full((1, 12, 48, 48), 0.01, dtype=torch.float64)
    timer = threading.Timer(0.2, job.cancel, args=("The client left.",))
    timer.start()
    begin = time.monotonic()
    with torch.no_grad(), job.at_work(), pytest.raises(Interrupted, match="The client left"):
        engine.roll_out(cell, state * 0, 80_000, Fire.for_batch(0.5, 0, 1))
    assert time.monotonic() - begin < 20
    timer.join()
    # What the next roll-out finds is whole again.
    with torch.no_grad():
        one, other = (engine.roll_out(cell, state, 3, Fire.for_batch(0.5, 0, 1)) for _ in range(2))
    assert torch.equal(one, other)
