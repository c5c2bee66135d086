"""The ways of computing a step that were weighed for the CPU engine, on one case in one run.

    python benchmarks/ways.py [--json]

(a) torch only: the reference engine. (b) compiled loops gather and perceive the cells that fire
into one array, torch multiplies it with the weights, a compiled loop adds the change. (c) all of it
in one compiled loop over blocks that stay in the cache: the engine ``cpu``. The ways take turns, so
that what else the machine does meets all of them.
"""

from __future__ import annotations

import json
import statistics
import time
from typing import Any

import click
import numpy as np
import torch
from numba import config, njit, prange, set_num_threads
from torch import Tensor
from torch.nn import functional as F

from medseg_nca.benchmark.cases import Case
from medseg_nca.benchmark.step import make_cell
from medseg_nca.nca import Cell, Fire
from medseg_nca.nca.engines import get_engine
from medseg_nca.nca.engines.base import Engine, Record

STEPS = 10


@njit(parallel=True, fastmath=True, cache=True)
def gather(
    state: np.ndarray[Any, Any], cells: np.ndarray[Any, Any], taps: np.ndarray[Any, Any],
    filters: np.ndarray[Any, Any], rows: np.ndarray[Any, Any],
) -> None:  # fmt: skip
    """Write ``[x | filters * x]`` of the cells that fire into ``rows (n, 2 C)``."""
    channels = state.shape[1]
    for i in prange(len(cells)):
        for c in range(channels):
            rows[i, c] = state[cells[i], c]
            rows[i, channels + c] = 0
        for t in range(len(taps)):
            for c in range(channels):
                rows[i, channels + c] += filters[t, c] * state[cells[i] + taps[t], c]


@njit(parallel=True, cache=True)
def scatter(
    state: np.ndarray[Any, Any], cells: np.ndarray[Any, Any], change: np.ndarray[Any, Any]
) -> None:
    """Add the change ``(n, outputs)`` to the last channels of the cells that fire."""
    first = state.shape[1] - change.shape[1]
    for i in prange(len(cells)):
        for c in range(change.shape[1]):
            state[cells[i], first + c] += change[i, c]


class SplitEngine(Engine):
    """Way (b), for one sample in 3D, depthwise filters with zero padding, and inference."""

    def roll_out(
        self, cell: Cell, state: Tensor, steps: int, fire: Fire, record: Record | None = None
    ) -> Tensor:
        """See :meth:`Engine.roll_out`."""
        padded = F.pad(state[0].movedim(0, -1), (0, 0, *(cell.radius,) * 6)).contiguous()
        flat = padded.view(-1, cell.channels)
        place = torch.arange(len(flat)).view(padded.shape[:-1])
        inside = place[(slice(cell.radius, -cell.radius),) * 3]
        kernel = cell.perception.weight.shape[2:]
        taps = (place[tuple(slice(k) for k in kernel)].flatten() - inside[0, 0, 0]).numpy()
        filters = cell.perception.weight.flatten(1).t().contiguous().numpy()
        own, seen = cell.update.hidden.weight.chunk(2, 1)
        bias = cell.update.hidden.bias + seen @ cell.perception.bias
        positions = fire.positions(state.shape[2:], state.device)
        for step in range(steps):
            cells = inside[fire.mask(positions, step)[0]].numpy()
            rows = torch.empty(len(cells), 2 * cell.channels)
            gather(flat.numpy(), cells, taps, filters, rows.numpy())
            hidden = torch.relu_(torch.addmm(bias, rows, torch.cat((own, seen), 1).t()))
            scatter(flat.numpy(), cells, F.linear(hidden, cell.update.output.weight).numpy())
        return padded[(slice(cell.radius, -cell.radius),) * 3].movedim(-1, 0)[None]


@click.command()
@click.option("--case", "name", default="3d_64_c16_h64_k3", show_default=True)
@click.option("--threads", type=click.IntRange(min=1))
@click.option("--rounds", type=click.IntRange(min=1), default=7, show_default=True)
@click.option("--json", "as_json", is_flag=True)
def main(name: str, threads: int | None, rounds: int, as_json: bool) -> None:
    """Print milliseconds a step of each way and how many times as fast as (a) it is.

    The case must be in 3D with one depthwise filter.
    """
    threads = threads or torch.get_num_threads()
    set_num_threads(min(threads, config.NUMBA_NUM_THREADS))
    torch.set_num_threads(threads)
    case = Case.parse(name)
    cell = make_cell(case)
    ways = {
        "a: torch only": get_engine("reference"),
        "b: compiled gather, torch products, compiled scatter": SplitEngine(),
        "c: one compiled loop": get_engine("cpu"),
    }
    state, fire = torch.randn(1, case.channels, *case.shape), Fire.for_batch(0.5, 0, 1)
    times: dict[str, list[float]] = {way: [] for way in ways}
    with torch.inference_mode():
        expected, *others = [engine.roll_out(cell, state, STEPS, fire) for engine in ways.values()]
        for other in others:
            torch.testing.assert_close(other, expected, rtol=1e-3, atol=1e-3)
        torch.set_num_threads(threads)  # the start of numba's threads has changed it
        for _ in range(rounds):
            for way, engine in ways.items():
                started = time.perf_counter()
                engine.roll_out(cell, state, STEPS, fire)
                times[way].append(time.perf_counter() - started)
    median = {way: 1e3 * statistics.median(values) / STEPS for way, values in times.items()}
    slowest = next(iter(median.values()))
    rows = [
        {"way": way, "ms_per_step": round(ms, 3), "ratio_to_torch": round(slowest / ms, 2)}
        for way, ms in median.items()
    ]
    if as_json:
        click.echo(json.dumps({"case": name, "threads": torch.get_num_threads(), "rows": rows}))
        return
    for row in rows:
        click.echo(f"{row['ms_per_step']:10.3f} ms  {row['ratio_to_torch']:6.2f} x  {row['way']}")


if __name__ == "__main__":
    main()
