"""What an iteration of the training spends its time on, data set by data set.

    python benchmarks/iteration.py --data PREPARED [--data ...] [--phantom 512x512x200]
                                   [--set KEY=VALUE] [--threads 2] [--iterations 40] [--json]

``--data`` is a folder that ``medseg-nca preprocess`` wrote. A phantom is made and prepared in a
temporary folder: four cases of about that many voxels. The settings are those of ``medseg-nca
train``. Samples are made in the same process, one after the other, so that their share is of all
the work that an iteration is; cases are in memory before the clock starts.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import click
import nibabel as nib
import numpy as np
import torch

from medseg_nca.config import RunSettings
from medseg_nca.config.loading import load_settings
from medseg_nca.datasets.adapters.phantom import write_phantom
from medseg_nca.datasets.prepared import PreparedStore
from medseg_nca.datasets.splits import make_split
from medseg_nca.pipelines import preprocess
from medseg_nca.tasks.segmentation.learner import SegmentationLearner
from medseg_nca.training.optim import build_optimiser

PARTS = ("samples", "forward", "backward", "optimiser")
WARM_UP, WARM_UP_SAMPLES = 3, 10
TIMES = 4


def measure(store: PreparedStore, settings: RunSettings, iterations: int) -> dict[str, Any]:
    """Return the median seconds of each part of an iteration."""
    task = SegmentationLearner(settings, store, make_split(store, settings.data.split))
    model = task.build_model().train()
    optimiser = build_optimiser(model, settings.training)
    batch_size = settings.training.batch_size
    for index in range(WARM_UP_SAMPLES * len(task.split.train)):
        task.sample(index)
    seconds: dict[str, list[float]] = {name: [] for name in PARTS}
    for index in range(iterations + WARM_UP):
        ticks = [time.perf_counter()]
        first = index * batch_size
        batch = task.collate([task.sample(first + k) for k in range(batch_size)])
        ticks.append(time.perf_counter())
        loss, _ = task.loss(model, batch, index)
        ticks.append(time.perf_counter())
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        ticks.append(time.perf_counter())
        optimiser.step()
        ticks.append(time.perf_counter())
        for name, begin, end in zip(PARTS, ticks, ticks[1:], strict=False):
            if index >= WARM_UP:
                seconds[name].append(end - begin)
    means = {name: statistics.fmean(values) for name, values in seconds.items()}
    total = sum(means.values())
    return {
        "data": store.name,
        "sample": "x".join(map(str, store.plan.crop_size)),
        "ms": 1e3 * total,
        **{f"share_{name}": value / total for name, value in means.items()},
    }


def large_phantom(folder: Path, size: tuple[int, ...]) -> Path:
    """Write four phantoms of about ``size`` voxels: small ones, each voxel repeated.

    Drawing them at that size would take minutes and many times their memory.
    """
    small = tuple(n // TIMES for n in size)
    write_phantom(folder, 4, dims=len(size), size=small)  # type: ignore[arg-type]
    for path in sorted(folder.glob("*Tr/*.nii*")):
        found = nib.load(path)
        voxels = np.asanyarray(found.dataobj)  # type: ignore[attr-defined]
        for axis in range(len(size)):
            voxels = voxels.repeat(TIMES, axis)
        nib.save(nib.Nifti1Image(voxels, found.affine), path)  # type: ignore[attr-defined]
    return folder


@click.command()
@click.option("--data", multiple=True, type=click.Path(path_type=Path, exists=True))
@click.option("--phantom", multiple=True, metavar="512x512x200")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE")
@click.option("--threads", type=click.IntRange(min=1))
@click.option("--iterations", type=click.IntRange(min=1), default=40, show_default=True)
@click.option("--json", "as_json", is_flag=True)
def main(
    data: tuple[Path, ...],
    phantom: tuple[str, ...],
    overrides: tuple[str, ...],
    threads: int | None,
    iterations: int,
    as_json: bool,
) -> None:
    """Measure and print."""
    settings = load_settings(None, overrides)
    if threads is not None:
        torch.set_num_threads(threads)
    rows = [measure(PreparedStore.open(folder), settings, iterations) for folder in data]
    for text in phantom:
        size = tuple(int(n) for n in text.split("x"))
        with tempfile.TemporaryDirectory() as folder:
            raw = large_phantom(Path(folder) / "raw", size)
            store = preprocess.run(
                preprocess.PreprocessRequest(raw, Path(folder) / "prepared", settings)
            )
            rows.append(measure(store, settings, iterations))
    if as_json:
        click.echo(json.dumps(rows))
        return
    for row in rows:
        shares = ", ".join(f"{name} {100 * row[f'share_{name}']:.0f} %" for name in PARTS)
        click.echo(f"{row['data']} ({row['sample']}): {row['ms']:.0f} ms an iteration; {shares}")


if __name__ == "__main__":
    main()
