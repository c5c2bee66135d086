"""How large the gradients of each level's loss are at each level's weights, and how much is signal.

    python benchmarks/gradients.py RUN --data PREPARED [--iterations 40] [--threads 1] [--json]

``RUN`` is a run folder of ``medseg-nca train`` with an automaton of several levels, whose best
weights are looked at. The gradients are those of the training, before ``coarse_gradient`` lessens
any. A row is the loss of one level, a column the cells of one level: the root mean square over the
iterations of the gradient's norm, and its signal-to-noise ratio (squared norm of the mean gradient
to the variance around it, both without bias; 0 where noise is all there is).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import torch
from torch import Tensor

from medseg_nca.config.loading import read_settings
from medseg_nca.config.model import NcaModelSettings
from medseg_nca.datasets.prepared import PreparedStore
from medseg_nca.datasets.splits import make_split
from medseg_nca.models.multilevel import MultiLevelNca
from medseg_nca.tasks.segmentation.learner import SegmentationLearner


class Running:
    """Mean and mean square of gradients that come one after the other."""

    def __init__(self) -> None:
        self.count, self.total, self.square = 0, torch.zeros(()), 0.0

    def add(self, gradient: Tensor) -> None:
        """Take one more."""
        self.count += 1
        self.total = self.total + gradient
        self.square += float(gradient.square().sum())

    def result(self) -> dict[str, float]:
        """Norm and signal-to-noise ratio."""
        mean_square = self.square / self.count
        of_mean = float((self.total / self.count).square().sum())
        signal = max((self.count * of_mean - mean_square) / (self.count - 1), 0.0)
        noise = max(mean_square - signal, 1e-30)
        return {"norm": mean_square**0.5, "snr": signal / noise}


def measure(run: Path, store: PreparedStore, iterations: int) -> list[list[dict[str, float]]]:
    """Return for each level's loss what arrives at its own and each coarser level's cells."""
    settings = read_settings(run / "settings.yaml")
    if not isinstance(settings.model, NcaModelSettings):
        raise click.UsageError(f"{run}: {settings.model.name} has no levels.")
    whole = settings.model.model_copy(update={"coarse_gradient": 1.0})
    settings = settings.model_copy(update={"model": whole})
    task = SegmentationLearner(settings, store, make_split(store, settings.data.split))
    model = task.build_model().train()
    assert isinstance(model, MultiLevelNca)
    best = torch.load(run / "checkpoints" / "best.pt", weights_only=True)
    model.load_state_dict(best["model"])
    weights = [list(cell.parameters()) for cell in model.cells]
    found = [[Running() for _ in range(level + 1)] for level in range(len(weights))]
    size = settings.training.batch_size
    for number in range(iterations):
        batch = task.collate([task.sample(number * size + k) for k in range(size)])
        outputs = model.training_outputs(batch["views"], number)
        for level, (output, target) in enumerate(zip(outputs, batch["targets"], strict=True)):
            loss = task.criterion(output.logits.float(), target)
            for coarse, running in enumerate(found[level]):
                parts = torch.autograd.grad(loss, weights[coarse], retain_graph=True)
                running.add(torch.cat([part.flatten() for part in parts]))
    return [[running.result() for running in row] for row in found]


def table(rows: list[list[dict[str, float]]]) -> str:
    """The figures in Markdown."""
    head = ["loss of level", *(f"cells of level {k}" for k in range(len(rows)))]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for level, row in enumerate(rows):
        cells = [f"{part['norm']:.2f} (snr {part['snr']:.3f})" for part in row]
        cells += [""] * (len(rows) - len(row))
        lines.append(f"| {level} | {' | '.join(cells)} |")
    return "\n".join(lines)


@click.command()
@click.argument("run", type=click.Path(exists=True, path_type=Path))
@click.option("--data", required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--iterations", default=40, show_default=True, type=click.IntRange(2))
@click.option("--threads", default=1, show_default=True, type=click.IntRange(1))
@click.option("--json", "as_json", is_flag=True)
def main(run: Path, data: Path, iterations: int, threads: int, as_json: bool) -> None:
    """Measure and print."""
    torch.set_num_threads(threads)
    rows: list[list[dict[str, Any]]] = measure(run, PreparedStore.open(data), iterations)
    click.echo(json.dumps(rows, indent=2) if as_json else table(rows))


if __name__ == "__main__":
    main()
