"""Cells a second and peak memory of a step and a training step, against textbook eager code.

    python benchmarks/step.py                  all models, table
    python benchmarks/step.py m3d_nca --json   one model, for a script

Every measurement is a process of its own, so that peak memory is its own; the two sides of a ratio
run one after the other. Times are medians.
"""

from __future__ import annotations

import json
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import click

NAMES = ("backbone_nca", "med_nca", "m3d_nca", "octree_nca", "cascade_nca", "pyramid_nca")
SIZES = {2: (128, 128), 3: (40, 40, 40)}
STEPS = 10


def measure(name: str, side: str, mode: str, threads: int, repeats: int) -> dict[str, float]:
    """Time STEPS steps of the finest level's cell; runs in a process of its own."""
    import torch

    from medseg_nca.models import create_model
    from medseg_nca.models.multilevel import MultiLevelNca

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    model = create_model(name, in_channels=1, out_channels=2)
    assert isinstance(model, MultiLevelNca)
    cell = model.cell(len(model.scales) - 1)
    size = SIZES[model.dims]
    state = torch.randn(1, cell.channels, *size)
    run = _engine_run(cell, model) if side == "engine" else _textbook_run(cell)
    train = mode == "train"
    action = _training_action(run, state) if train else _inference_action(run, state)
    action()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    times = [_timed(action) for _ in range(repeats)]
    seconds = statistics.median(times) / STEPS
    return {
        "ms_per_step": 1e3 * seconds,
        "cells_per_second": state[0, 0].numel() / seconds,
        "peak_mb": before / 1024,
    }


def _timed(action: Callable[[], None]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def _inference_action(run: Callable[[Any], Any], state: Any) -> Callable[[], None]:
    import torch

    def action() -> None:
        with torch.inference_mode():
            run(state)

    return action


def _training_action(run: Callable[[Any], Any], state: Any) -> Callable[[], None]:
    leaf = state.requires_grad_()

    def action() -> None:
        leaf.grad = None
        run(leaf).square().mean().backward()

    return action


def _engine_run(cell: Any, model: Any) -> Callable[[Any], Any]:
    from medseg_nca.nca import Fire, roll_out

    fire = Fire.for_batch(cell.settings.fire_rate, 0, 1)
    return lambda state: roll_out(model.engine, cell, state, STEPS, fire)


def _textbook_run(cell: Any) -> Callable[[Any], Any]:
    """The step as textbooks write it: permuted layouts and activations of all cells."""
    import torch
    from torch.nn import functional as F

    filters, bias = cell.perception.weight, cell.perception.bias
    full, radius, dims = cell.settings.perception.kind == "conv", cell.radius, cell.dims
    padding = cell.settings.perception.padding
    mode = "constant" if padding == "zero" else padding
    convolve = F.conv2d if dims == 2 else F.conv3d

    def step(x: Any) -> Any:
        padded = F.pad(x, (radius,) * 2 * dims, mode=mode)
        y = convolve(padded, filters, bias, groups=1 if full else x.shape[1])
        seen = torch.cat((x, y), 1).movedim(1, -1)
        change = cell.change(seen.reshape(-1, seen.shape[-1])).view(*seen.shape[:-1], -1)
        fire = (torch.rand_like(change[..., :1]) < cell.settings.fire_rate).float()
        return x + (change * fire).movedim(-1, 1)

    def run(state: Any) -> Any:
        for _ in range(STEPS):
            state = step(state)
        return state

    return run


def _in_process(name: str, side: str, mode: str, threads: int, repeats: int) -> dict[str, float]:
    call = [sys.executable, __file__, name, "--child", side, mode]
    call += ["--threads", str(threads), "--repeats", str(repeats)]
    output = subprocess.run(call, check=True, capture_output=True, text=True).stdout
    return json.loads(output.splitlines()[-1])  # type: ignore[no-any-return]


def _idle_mb(threads: int) -> float:
    """Memory of a process that has imported everything and done nothing."""
    code = (
        "import resource, torch; from medseg_nca.models import create_model; "
        "create_model('m3d_nca', in_channels=1, out_channels=2); "
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)"
    )
    call = [sys.executable, "-c", code]
    output = subprocess.run(call, check=True, capture_output=True, text=True).stdout
    return float(output.splitlines()[-1])


@click.command()
@click.argument("names", nargs=-1)
@click.option("--threads", default=2, show_default=True)
@click.option("--repeats", default=5, show_default=True)
@click.option("--json", "as_json", is_flag=True)
@click.option("--child", nargs=2, hidden=True)
def main(
    names: tuple[str, ...], threads: int, repeats: int, as_json: bool, child: tuple[str, str] | None
) -> None:
    """Measure the models NAMES (default: all automata)."""
    if child:
        click.echo(json.dumps(measure(names[0], *child, threads, repeats)))
        return
    rows = []
    idle = _idle_mb(threads)
    for name in names or NAMES:
        for mode in ("step", "train"):
            ours = _in_process(name, "engine", mode, threads, repeats)
            eager = _in_process(name, "textbook", mode, threads, repeats)
            extra = [max(side["peak_mb"] - idle, 1.0) for side in (ours, eager)]
            rows.append({
                "model": name, "mode": mode,
                "ms_per_step": round(ours["ms_per_step"], 2),
                "eager_ms_per_step": round(eager["ms_per_step"], 2),
                "cells_per_second": round(ours["cells_per_second"]),
                "speed_ratio": round(eager["ms_per_step"] / ours["ms_per_step"], 2),
                "extra_mb": round(extra[0], 1), "eager_extra_mb": round(extra[1], 1),
                "memory_ratio": round(extra[1] / extra[0], 2),
            })  # fmt: skip
            if not as_json:
                click.echo("  ".join(f"{key} {value}" for key, value in rows[-1].items()))
    if as_json:
        machine = {"cpu": platform.processor() or platform.machine(), "threads": threads}
        click.echo(json.dumps({"machine": machine, "rows": rows}, indent=2))


if __name__ == "__main__":
    main()
