"""``medseg-nca bench``: speed and memory of the engines and of whole models on this machine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from medseg_nca.cli.console import announce
from medseg_nca.cli.options import FiniteRange, out_option, print_json

if TYPE_CHECKING:
    from medseg_nca.pipelines.bench import BenchResult, BenchSettings

F = TypeVar("F", bound=Callable[..., Any])

NO_VALUE = "–"
STDOUT = "-"
STEP_COLUMNS = {
    "engine": "engine", "ms_per_step": "ms a step", "cells_per_second": "cells/s",
    "gflops": "GFLOP/s", "share_of_sgemm": "of sgemm", "ratio_to_eager": "× eager",
    "ratio_to_reference": "× ref.", "peak_mb": "peak MB",
}  # fmt: skip
MODEL_COLUMNS = {
    "model": "model", "engine": "engine", "ms": "ms", "parameters": "parameters",
    "ratio_to_eager": "× eager", "ratio_to_unet": "× unet", "peak_mb": "peak MB",
}  # fmt: skip
TEXT_COLUMNS = ("engine", "model")


def _options(*options: Callable[[F], F]) -> Callable[[F], F]:
    """Return one decorator for several options, which ``--help`` lists in this order."""

    def decorate(command: F) -> F:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


measuring = _options(
    click.option(
        "--engine",
        "engines",
        multiple=True,
        metavar="NAME",
        help="Engine to measure; all if not given. May be repeated. The engine eager is always "
        "measured, because ratios refer to it.",
    ),
    click.option(
        "--threads", type=click.IntRange(min=1), help="CPU threads; torch's if not given."
    ),
    click.option(
        "--seconds",
        type=FiniteRange(min=0),
        default=2.0,
        show_default=True,
        help="Seconds for the runs of one measurement; at least one run follows the warm-up.",
    ),
    click.option(
        "--repeats", type=click.IntRange(min=1), help="Number of runs, in place of --seconds."
    ),
)
reporting = _options(
    out_option("Folder for bench.json, bench.csv and the plots of --sweep.", required=False),
    click.option(
        "--json",
        "json_file",
        is_flag=False,
        flag_value=STDOUT,
        metavar="[FILE]",
        help="Write the result as JSON to FILE; without FILE, or with -, to standard output.",
    ),
)
cells = _options(
    click.option(
        "--device",
        type=click.Choice(["cpu", "cuda"]),
        default="cpu",
        show_default=True,
        help="Where to compute. sgemm is then the rate of the same device.",
    ),
    click.option(
        "--case",
        "cases",
        multiple=True,
        metavar="NAME",
        help="Cell and grid, for example 3d_64_c16_h64_k3. Add _f2 for two depthwise filters of "
        "each channel, or _conv2 for two full convolutions. May be repeated.",
    ),
    click.option(
        "--steps",
        type=click.IntRange(min=1),
        default=10,
        show_default=True,
        help="Steps of a roll-out.",
    ),
    click.option(
        "--sweep",
        is_flag=True,
        help="Also measure how cost grows with size, steps and channels of the first case, and "
        "plot it into --out. Takes minutes.",
    ),
)


@click.group()
def bench() -> None:
    """Measure speed and memory on this machine.

    Every measurement runs in a process of its own. Report figures only from a machine that does
    nothing else.
    """


@bench.command()
@cells
@measuring
@reporting
def step(**options: Any) -> None:
    """Measure the steps of one cell in inference."""
    _bench_cells("step", **options)


@bench.command()
@cells
@measuring
@reporting
def train(**options: Any) -> None:
    """Measure the steps of one cell with their backward pass."""
    _bench_cells("train", **options)


@bench.command()
@click.option(
    "--model",
    "models",
    multiple=True,
    metavar="RUN|URI|zoo:NAME|NAME",
    help="Trained model, or name of an untrained one; zoo:hippocampus if not given. May be "
    "repeated.",
)
@click.option(
    "--size", metavar="40x56x40", help="Voxels of the volume; 40x56x40 or 256x256 if not given."
)
@click.option(
    "--image",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Measure on this image, prepared for the first model, instead of noise. A model with "
    "focus computes only around the foreground that it finds.",
)
@measuring
@reporting
def model(models: tuple[str, ...], size: str | None, image: Path | None, **options: Any) -> None:
    """Measure one forward pass of whole models beside MONAI's unet and dynunet.

    The networks get the number of axes and channels of the first model. All models run on the same
    volume.
    """
    announce("Measuring whole models.")
    from medseg_nca.pipelines.bench import BenchSettings

    out, json_file = options.pop("out"), options.pop("json_file")
    if size is not None and image is not None:
        raise click.UsageError("--size and --image exclude each other.")
    settings = BenchSettings("model", models=models, size=_size(size), image=image, **options)
    _bench(settings, out, json_file, MODEL_COLUMNS)


def _bench_cells(mode: Any, out: Path | None, json_file: str | None, **options: Any) -> None:
    announce("Measuring steps of cells.")
    from medseg_nca.pipelines.bench import BenchSettings

    if options["sweep"] and out is None:
        raise click.UsageError("--sweep needs --out, the folder for its plots.")
    _bench(BenchSettings(mode, **options), out, json_file, STEP_COLUMNS)


def _bench(
    settings: BenchSettings, out: Path | None, json_file: str | None, columns: dict[str, str]
) -> None:
    from medseg_nca.cli.progress import ProgressBars
    from medseg_nca.io.atomic import write_json
    from medseg_nca.pipelines import bench as pipeline

    with ProgressBars() as bars:
        result = pipeline.run(settings, out=out, job=bars.job)
    if json_file == STDOUT:
        print_json(result.to_dict())
        return
    _show(result, columns)
    if json_file is not None:
        write_json(Path(json_file), result.to_dict())
        click.echo(f"JSON: {json_file}")
    if out is not None:
        click.echo(f"Results: {out}")


def _size(text: str | None) -> tuple[int, ...]:
    if text is None:
        return ()
    parts = text.replace("x", ",").split(",")
    if not all(part.strip().isdecimal() for part in parts):
        raise click.BadParameter(f"{text!r}: write it as 40x56x40.", param_hint="--size")
    return tuple(int(part) for part in parts)


def _show(result: BenchResult, columns: dict[str, str]) -> None:
    from rich.markup import escape
    from rich.table import Table

    from medseg_nca.cli.console import make_console, print_table

    machine = result.machine
    console = make_console()
    console.print(
        f"{escape(machine['cpu'])}, {machine['threads']} threads, "
        f"sgemm {result.sgemm_gflops:.4g} GFLOP/s, load {machine['load']}"
    )
    for case in dict.fromkeys(row["case"] for row in result.rows):
        table = Table(title=f"\n{escape(case)}", title_justify="left", box=None, pad_edge=False)
        for key, heading in columns.items():
            justify: Any = "left" if key in TEXT_COLUMNS else "right"
            table.add_column(heading, justify=justify, no_wrap=True)
        for row in result.rows:
            if row["case"] == case:
                table.add_row(*(escape(_shown(key, row[key])) for key in columns))
        print_table(table)
    console.print("\n×: how many times as fast.")
    for row in result.rows:
        if "error" in row:
            name = row.get("model") or row["case"]
            console.print(f"{escape(name)}, {row['engine']}: {escape(row['error'])}")


def _shown(key: str, value: Any) -> str:
    if value is None:
        return NO_VALUE
    if key == "share_of_sgemm":
        return f"{100 * value:.3g} %"
    if key == "cells_per_second":
        return f"{value:.3g}"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.4g}" if isinstance(value, float) else str(value)
