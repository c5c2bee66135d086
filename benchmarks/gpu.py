"""The GPU engine on one GPU: is it right, how fast is it, and does it train as well.

    python benchmarks/gpu.py [--device cuda] [--seconds 1] [--minutes 10] [--json FILE]
    python benchmarks/gpu.py --dry

First states and gradients are compared with the reference engine in float64 on the CPU; where they
do not agree, nothing is measured. Then steps and training steps are timed beside the textbook's
eager code, the same code under ``torch.compile``, and the reference engine, and set against the
bandwidth and the rate of matrix products that the device reaches in the same run. Last, a small
model is trained with the reference engine and with this one. No new measurement begins after
``--minutes``.

``--dry`` goes through all of it in Triton's interpreter on the CPU, on tiny grids: its figures mean
nothing.
"""

from __future__ import annotations

import json
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import torch
from torch import Tensor

from medseg_nca.benchmark.cases import Workload
from medseg_nca.benchmark.step import find_engine, flop_per_step, make_cell
from medseg_nca.errors import MedsegError
from medseg_nca.models import create_model
from medseg_nca.models.views import cut_views
from medseg_nca.nca import Cell, Fire
from medseg_nca.nca.engines import Engine

COLUMNS = ("case", "mode", "engine", "ms_per_step", "cells_per_second", "of_bandwidth", "of_flops",
           "times_eager", "peak_mb", "error")  # fmt: skip
ENGINES = ("eager", "compiled eager", "reference", "triton", "triton-bfloat16")
TOLERANCE = {"state": 1e-3, "gradients": 1e-2}
COPY_BYTES, MATRIX = 2**30, 8192


@dataclass(frozen=True)
class Plan:
    """What is measured, and on what.

    Attributes:
        device: "cuda", or "cpu" where the kernels are interpreted.
        seconds: for the runs of one measurement.
        until: no measurement begins after this time, in seconds of ``time.monotonic``.
        cases: case, batch and steps of a roll-out.
        dry: tiny sizes, for a test of this script.
    """

    device: str
    seconds: float
    until: float
    cases: tuple[tuple[Workload, int, int], ...]
    dry: bool

    def wait(self) -> None:
        """Until the device has done what it was told."""
        if self.device == "cuda":
            torch.cuda.synchronize()


def inputs(plan: Plan, case: Workload, batch: int, engine: str) -> tuple[Cell, Tensor, Fire]:
    """A cell, a state and a mask on the device."""
    cell = make_cell(case).to(plan.device)
    kind = torch.bfloat16 if engine.endswith("-bfloat16") else torch.float32
    state = torch.randn(batch, case.channels, *case.shape).to(plan.device, kind)
    return cell, state, Fire.for_batch(case.settings.fire_rate, 0, batch)


def engine_named(name: str) -> Engine:
    """An engine, with or without ``torch.compile`` around its roll-out."""
    plain = find_engine(name.removeprefix("compiled "))
    if name.startswith("compiled "):
        compiled = torch.compile(plain.roll_out)

        class Compiled(type(plain)):  # type: ignore[misc]
            def roll_out(self, *arguments: Any) -> Tensor:
                return compiled(*arguments)  # type: ignore[no-any-return]

        return Compiled()  # type: ignore[no-any-return]
    return plain


def times(plan: Plan, action: Callable[[], object]) -> list[float]:
    """Seconds of each run, after a first one that does not count."""
    action()
    plan.wait()
    found: list[float] = []
    while not found or (sum(found) < plan.seconds and not plan.dry):
        started = time.perf_counter()
        action()
        plan.wait()
        found.append(time.perf_counter() - started)
    return found


def ceilings(plan: Plan) -> dict[str, float]:
    """Bytes a second of a copy, and operations a second of products of random matrices."""
    count, size = (2**16, 64) if plan.dry else (COPY_BYTES, MATRIX)
    source = torch.randn(count // 4, device=plan.device)
    target = torch.empty_like(source)
    found = {"bandwidth": 2 * count / min(times(plan, lambda: target.copy_(source)))}
    before = torch.get_float32_matmul_precision()
    for name, kind, precision in (
        ("float32", torch.float32, "highest"), ("tf32", torch.float32, "high"),
        ("bfloat16", torch.bfloat16, "highest"),
    ):  # fmt: skip
        torch.set_float32_matmul_precision(precision)
        a, b = (torch.randn(size, size, device=plan.device).to(kind) for _ in range(2))
        seconds = min(times(plan, lambda a=a, b=b: torch.mm(a, b)))  # type: ignore[misc]
        found[name] = 2 * size**3 / seconds
    torch.set_float32_matmul_precision(before)
    return found


def outcome(engine: Engine, cell: Cell, state: Tensor, steps: int, fire: Fire) -> list[Tensor]:
    """The state after some steps, and the gradients of state and weights."""
    leaf = state.clone().requires_grad_()
    after = engine.roll_out(cell, leaf, steps, fire)
    grads = torch.autograd.grad(after.square().sum(), [leaf, *cell.parameters()])
    return [t.detach().cpu().double() for t in (after, *grads)]


def differences(plan: Plan) -> list[dict[str, Any]]:
    """The largest difference from the reference in float64, as a share of the largest value."""
    rows = []
    for name in (
        "3d_12_c16_h64_k3",
        "3d_9_c20_h48_k5",
        "2d_33_c32_h64_k3_f2",
        "2d_21_c8_h32_k3_conv2",
    ):
        case = Workload.parse(
            name.replace("_12_", "_4_").replace("_k5", "_k3") if plan.dry else name
        )
        cell, state, fire = inputs(plan, case, 1 if plan.dry else 2, "triton")
        actual = outcome(engine_named("triton"), cell, state, 2, fire)
        exact = outcome(
            engine_named("reference"), cell.cpu().double(), state.cpu().double(), 2, fire
        )
        shares = [
            float((a - e).abs().max() / e.abs().max()) for a, e in zip(actual, exact, strict=True)
        ]
        row = {"case": case.name, "state": shares[0], "gradients": max(shares[1:])}
        rows.append({**row, "agrees": all(row[k] <= most for k, most in TOLERANCE.items())})
    return rows


def roll(engine: Engine, cell: Cell, state: Tensor, steps: int, fire: Fire, train: bool) -> None:
    """A roll-out, with its backward pass if it is for training."""
    if train:
        leaf = state.requires_grad_()
        loss = engine.roll_out(cell, leaf, steps, fire).square().mean()
        torch.autograd.grad(loss, [leaf, *cell.parameters()])
    else:
        with torch.no_grad():
            engine.roll_out(cell, state, steps, fire)


def measured(
    plan: Plan, case: Workload, batch: int, steps: int, mode: str, name: str, most: dict[str, float]
) -> dict[str, Any]:  # fmt: skip
    """A row: time, rates, shares of what the device reaches, and peak memory."""
    row: dict[str, Any] = {"case": f"{batch}x{case.name}", "mode": mode, "engine": name}
    try:
        engine = engine_named(name)
        cell, state, fire = inputs(plan, case, batch, name)
        if plan.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        found = times(plan, lambda: roll(engine, cell, state, steps, fire, mode == "train"))
    except (MedsegError, RuntimeError) as error:
        return {**row, "error": f"{type(error).__name__}: {str(error).splitlines()[0]}"}
    seconds = statistics.median(found) / steps
    cells = batch * state[0, 0].numel()
    flop = flop_per_step(case) * batch / case.settings.fire_rate * (3 if mode == "train" else 1)
    moved = 2 * case.channels * state.element_size() * cells * (2 if mode == "train" else 1)
    peak = torch.cuda.max_memory_allocated() / 1e6 if plan.device == "cuda" else None
    return {
        **row, "ms_per_step": 1e3 * seconds, "cells_per_second": cells / seconds,
        "of_bandwidth": moved / seconds / most["bandwidth"],
        "of_flops": flop / seconds / most["float32"], "peak_mb": peak,
    }  # fmt: skip


def benchmark(plan: Plan, most: dict[str, float]) -> list[dict[str, Any]]:
    """Every engine on every case, in inference and in training."""
    rows: list[dict[str, Any]] = []
    for case, batch, steps in plan.cases:
        for mode in ("step", "train"):
            group = []
            for name in ENGINES:
                left_out = (mode == "train" and name.endswith("-bfloat16")) or (
                    plan.dry and name.startswith("compiled ")
                )
                if left_out or time.monotonic() > plan.until:
                    continue
                group.append(measured(plan, case, batch, steps, mode, name, most))
            eager = group[0].get("ms_per_step") if group else None
            for row in group:
                own = row.get("ms_per_step")
                row["times_eager"] = eager / own if eager and own else None
            rows += group
    return rows


def training(plan: Plan) -> list[dict[str, Any]]:
    """Train a model to find a ball in noise, by each engine, from the same weights."""
    size, count, steps = (6, 1, 1) if plan.dry else (48, 100, 10)
    rows: list[dict[str, Any]] = []
    axes = torch.meshgrid(*[torch.linspace(-1, 1, size)] * 3, indexing="ij")
    ball = (sum(a.square() for a in axes) < 0.4).float().to(plan.device)[None, None]
    for name in ("reference", "triton"):
        if time.monotonic() > plan.until:
            break
        torch.manual_seed(0)
        levels = [{"scale": 2, "steps": steps}, {"scale": 1, "steps": steps}]
        model = create_model(
            "pyramid_nca", dims=3, in_channels=1, out_channels=1, levels=levels, engine=name
        ).to(plan.device)
        optimiser = torch.optim.AdamW(model.parameters(), 3e-3)
        image = ball + torch.randn(ball.shape).to(plan.device)
        losses, started = [], time.perf_counter()
        for iteration in range(count):
            views = cut_views(image, model.views, seed=iteration)
            logits = model.training_outputs(views, seed=iteration)[-1].logits
            loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, ball)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            losses.append(loss.detach())
        plan.wait()
        seconds = (time.perf_counter() - started) / count
        rows.append({"engine": name, "iterations": count, "ms_per_iteration": 1e3 * seconds,
                     "first_loss": float(losses[0]), "last_loss": float(losses[-1])})  # fmt: skip
    return rows


def table(rows: list[dict[str, Any]], columns: tuple[str, ...]) -> str:
    """Rows as a table of Markdown."""
    lines = ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
    for row in rows:
        cells = [row.get(column) for column in columns]
        words = ["" if c is None else f"{c:.3g}" if isinstance(c, float) else str(c) for c in cells]
        lines.append("| " + " | ".join(words) + " |")
    return "\n".join(lines)


@click.command()
@click.option("--device", default="cuda", show_default=True)
@click.option("--seconds", type=float, default=1.0, show_default=True, help="A measurement.")
@click.option("--minutes", type=float, default=10.0, show_default=True, help="All of it.")
@click.option("--json", "file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--dry", is_flag=True, help="In Triton's interpreter, on tiny grids.")
def main(device: str, seconds: float, minutes: float, file: Path | None, dry: bool) -> None:
    """Compare, measure, train, and print tables."""
    if dry:
        os.environ["TRITON_INTERPRET"] = "1"  # nothing has imported Triton yet
        device = "cpu"
    elif not torch.cuda.is_available():
        raise click.ClickException("torch sees no GPU; --dry runs without one.")
    cases = (
        ((Workload(2, 4, 4, 8, 3), 1, 2),) if dry else (
            (Workload(3, 64, 16, 64, 3), 4, 20), (Workload(2, 512, 32, 128, 3, filters=2), 8, 20),
            (Workload(3, 40, 16, 64, 3), 1, 20),
        )
    )  # fmt: skip
    plan = Plan(device, seconds, time.monotonic() + 60 * minutes, cases, dry)
    name = torch.cuda.get_device_name() if device == "cuda" else "Triton's interpreter"
    result: dict[str, Any] = {"device": name, "torch": torch.__version__, "dry": dry}
    click.echo(f"{name}, torch {torch.__version__}")
    result["differences"] = differences(plan)
    click.echo(table(result["differences"], ("case", "state", "gradients", "agrees")))
    if all(row["agrees"] for row in result["differences"]):
        result["ceilings"] = ceilings(plan)
        click.echo("\n" + table([result["ceilings"]], tuple(result["ceilings"])))
        result["rows"] = benchmark(plan, result["ceilings"])
        click.echo("\n" + table(result["rows"], COLUMNS))
        result["training"] = training(plan)
        columns = ("engine", "iterations", "ms_per_iteration", "first_loss", "last_loss")
        click.echo("\n" + table(result["training"], columns))
    if file is not None:
        file.write_text(json.dumps(result, indent=1), encoding="utf-8")
    if "rows" not in result:
        raise click.ClickException("The engine disagrees with the reference; nothing was measured.")


if __name__ == "__main__":
    main()
