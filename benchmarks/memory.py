"""Seconds and peak memory of ``predict`` on one volume of noise, for a shape and a memory budget.

    python benchmarks/memory.py [--shape 512x512x300] [--budget 4] [--json]

Noise is the hard case: ``model.focus`` finds something everywhere, or nothing, and runs the fine
levels on the whole grid. The volume is an int16 NIfTI file; what is measured is the pipeline behind
the command, from the file to the written label map, in a process of its own. Memory is how far it
rises above where it stood with the model loaded and nothing read yet.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import click
import nibabel as nib
import numpy as np

CHILD = "--child"


def write_noise(path: Path, shape: tuple[int, ...]) -> None:
    """Write int16 noise with voxels of 1 mm."""
    noise = np.random.default_rng(0).integers(-1000, 1000, size=shape, dtype=np.int16)
    nib.Nifti1Image(noise, np.eye(4)).to_filename(path)


def measure(model: str, image: Path, out: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """Predict in this process.

    Returns:
        Seconds, processor seconds (which other work on the machine disturbs less), and the peak and
        the least memory in units of 10^6 bytes.
    """
    from medseg_nca.benchmark.memory import PeakMemory
    from medseg_nca.config.training import PredictionSettings
    from medseg_nca.errors import MemoryBudgetError
    from medseg_nca.inference.memory import footprint
    from medseg_nca.io.peek import peek
    from medseg_nca.tasks.segmentation import prediction
    from medseg_nca.tracking.resolve import load_segmentation

    loaded = load_segmentation(model, device="cpu")
    chosen: PredictionSettings = loaded.spec.prediction.changed(**settings)
    extent = peek((image,))
    assert extent is not None
    result = {"least_mb": round(footprint(loaded, chosen, extent).least / 1e6)}
    memory, started, busy = PeakMemory(), time.perf_counter(), time.process_time()
    try:
        prediction.run(prediction.PredictSegmentation(loaded, [image], out, chosen))
    except MemoryBudgetError as error:
        return {**result, "refused": str(error)}
    seconds = time.perf_counter() - started
    return {
        **result,
        "seconds": round(seconds, 1),
        "cpu_seconds": round(time.process_time() - busy, 1),
        "peak_mb": round(memory.megabytes()),
    }


@click.command()
@click.option("--shape", default="512x512x300", show_default=True)
@click.option("--budget", "budgets", type=float, multiple=True, help="In 10^9 bytes; 4 by default.")
@click.option("--model", default="zoo:hippocampus", show_default=True)
@click.option("--precision", default="float32", type=click.Choice(["float32", "bfloat16"]))
@click.option("--json", "as_json", is_flag=True)
def main(shape: str, budgets: tuple[float, ...], model: str, precision: str, as_json: bool) -> None:
    """Print a row for each budget."""
    rows = []
    with tempfile.TemporaryDirectory() as text:
        image = Path(text) / "noise.nii"
        write_noise(image, tuple(int(n) for n in shape.split("x")))
        for budget in budgets or (4.0,):
            settings = {"memory_budget_gb": budget, "precision": precision}
            out = Path(text) / f"out-{budget}"
            command = [sys.executable, __file__, CHILD, model, str(image), str(out)]
            done = subprocess.run(
                [*command, json.dumps(settings)], stdout=subprocess.PIPE, check=True, text=True
            )
            rows.append({"shape": shape, **settings, **json.loads(done.stdout.splitlines()[-1])})
            if not as_json:
                click.echo(json.dumps(rows[-1]))
    if as_json:
        click.echo(json.dumps(rows, indent=2))


if __name__ == "__main__":
    if CHILD in sys.argv[1:2]:
        name, source, target, changes = sys.argv[2:]
        print(json.dumps(measure(name, Path(source), Path(target), json.loads(changes))))
    else:
        main()
