"""How long the main commands take to say something and to be done, started warm.

    python benchmarks/start.py [--repeats 3] [--image FILE]

Each command is a process of its own, once to warm up and then as often as asked. The table has the
best of the runs: seconds to the first line, seconds in all, and seconds of processor time, which
depend less on what else the machine does. ``import torch`` is what no prediction can do without.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click
import nibabel as nib
import numpy as np

NAME = "start"


def measure(args: list[str], folder: Path) -> tuple[float, float, float]:
    """Seconds to the first byte on either stream, in all, and of the processor."""
    begin, used = time.perf_counter(), os.times()
    environment = {**os.environ, "XDG_CACHE_HOME": str(folder / "cache")}
    process = subprocess.Popen(
        args, cwd=folder, env=environment, bufsize=0, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert process.stdout is not None
    first = process.stdout.read(1)
    said = time.perf_counter() - begin
    output = first + process.stdout.read()
    if process.wait():
        raise click.ClickException(f"{' '.join(args)} failed:\n{output.decode()}")
    now = os.times()
    cpu = now.children_user + now.children_system - used.children_user - used.children_system
    return said, time.perf_counter() - begin, cpu


def best(args: list[str], folder: Path, repeats: int) -> tuple[float, ...]:
    """The smallest of each figure, after a run that is not counted."""
    measure(args, folder)
    runs = [measure(args, folder) for _ in range(repeats)]
    return tuple(min(column) for column in zip(*runs, strict=True))


def make_image(folder: Path) -> Path:
    """A volume of noise as large as a hippocampus."""
    path = folder / "image.nii.gz"
    values = np.random.default_rng(0).integers(0, 1000, (35, 51, 35), np.int16)
    nib.Nifti1Image(values, np.eye(4)).to_filename(path)
    return path


@click.command()
@click.option("--repeats", type=click.IntRange(min=1), default=3, show_default=True)
@click.option(
    "--image", type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Volume to segment; noise of 35 x 51 x 35 voxels if not given.",
)  # fmt: skip
def main(repeats: int, image: Path | None) -> None:
    """Print a table of warm starts."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        image = make_image(folder) if image is None else image.resolve()
        command = [sys.executable, "-m", "medseg_nca"]
        store = ["--tracking-uri", f"sqlite:///{folder / 'mlflow.db'}"]
        register = ["models", "register", "zoo:hippocampus", "--name", NAME, *store]
        measure([*command, *register], folder)
        predict = ["predict", "--fresh", "--out", "out", str(image), "--model"]
        rows: dict[str, list[str]] = {
            "import torch": [sys.executable, "-c", "import torch; print(1)"],
            "--help": [*command, "--help"],
            "config list": [*command, "config", "list"],
            "predict zoo:NAME": [*command, *predict, "zoo:hippocampus"],
            "predict models:/NAME/1": [*command, *predict, f"models:/{NAME}/1", *store],
            "models list": [*command, "models", "list", *store],
            "models describe": [*command, "models", "describe", "zoo:hippocampus"],
        }
        click.echo("| command | s to the first line | s in all | s of the processor |")
        click.echo("|---|---|---|---|")
        for name, args in rows.items():
            cells = " | ".join(f"{value:.2f}" for value in best(args, folder, repeats))
            click.echo(f"| {name} | {cells} |")


if __name__ == "__main__":
    main()
