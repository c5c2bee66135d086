"""Draw the votes of a classifying automaton."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medseg_nca.inference.task_model import TaskModel
from medseg_nca.tasks.classification.classify import Classifier
from medseg_nca.tasks.classification.prepare import Array
from medseg_nca.viz.votes import plot_votes, write_votes_gif


def trace_votes(
    classifier: Classifier, image: Array, seed: int = 0
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return what the cells answer to one image, from the first state to the last.

    Args:
        classifier: the classifier of a model.
        image: a prepared image ``(channels, *size)``.
        seed: seed of the fire mask.

    Returns:
        The answer of each cell ``(steps + 1, K, *cells)``, and that of all cells together
        ``(steps + 1, K)``.
    """
    model, temperature = classifier.module, classifier.facts.temperature
    cells: list[NDArray[np.float32]] = []
    votes: list[NDArray[np.float32]] = []

    def record(state: Tensor) -> None:
        cells.append(model.cell_shares(state)[0].float().cpu().numpy())
        votes.append(model.read(state).probabilities(temperature)[0].float().cpu().numpy())

    with torch.inference_mode():
        batch = torch.from_numpy(np.ascontiguousarray(image))[None].to(classifier.device)
        record(model.start(batch))
        model(batch, seed, record=record)
    return np.stack(cells), np.stack(votes)


def draw_votes(model: TaskModel, image: Array, path: Path, title: str, seed: int = 0) -> Path:
    """Draw the cells' votes on one prepared image ``(channels, *size)``, as a GIF or PNG.

    Raises:
        OutputError: if the file cannot be written.
    """
    classifier = Classifier.of(model)
    cells, votes = trace_votes(classifier, image, seed)
    draw = plot_votes if path.suffix == ".png" else write_votes_gif
    return draw(image, cells, votes, classifier.facts.classes, path, title)
