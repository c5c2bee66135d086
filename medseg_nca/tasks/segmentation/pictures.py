"""Figures of a segmentation model: overlays of validation cases, animations of the automaton."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medseg_nca.datasets.prepared import PreparedCase
from medseg_nca.datasets.truth import read_labelled
from medseg_nca.inference.bundle import LoadedModel
from medseg_nca.inference.predictor import Predictor
from medseg_nca.io.read import read_image
from medseg_nca.metrics.overlap import dice_by_label
from medseg_nca.models import RunOptions
from medseg_nca.models.multilevel import MultiLevelNca
from medseg_nca.transforms.prepare import prepare
from medseg_nca.viz.animation import write_gif
from medseg_nca.viz.overlay import plot_case

# Larger images are not animated, because every step of the whole image is kept in memory.
_ANIMATED_VOXELS = 2_000_000


def draw_validation(loaded: LoadedModel, cases: Sequence[PreparedCase], folder: Path) -> list[Path]:
    """Draw the worst and the median case, and animate the worst; return the files."""
    predictor = Predictor(loaded, keeps_budget=False)
    scored = []
    for case in cases:
        volume, truth = read_labelled(case, loaded.spec.labels.known_values)
        predicted = predictor.predict(volume).label_map.array[0]
        dice = dice_by_label(predicted, truth.array[0], loaded.spec.labels).values()
        score = float(np.mean([v for v in dice if v is not None] or [0.0]))
        scored.append((score, case))
    scored.sort(key=lambda row: row[0])
    chosen = {"worst": scored[0], "median": scored[len(scored) // 2]}
    paths = []
    for word, (score, case) in chosen.items():
        volume, found = read_labelled(case, loaded.spec.labels.known_values)
        truth = found.array[0]
        predicted = predictor.predict(volume).label_map.array[0]
        path = folder / f"validation_{word}.png"
        title = f"{case.id}: {word} validation case, Dice {score:.3f}"
        plot_case(
            volume.array, truth, predicted, loaded.spec.labels, path, title, spacing=volume.spacing
        )
        paths.append(path)
    median = chosen["median"][1]
    small = prod(median.shape) < _ANIMATED_VOXELS
    if isinstance(loaded.model, MultiLevelNca) and small:
        paths.append(animate(loaded, median, folder / "automaton.gif"))
    return paths


def animate(loaded: LoadedModel, case: PreparedCase, path: Path) -> Path:
    """Write a GIF of the probabilities after every step of every level."""
    model = loaded.model
    assert isinstance(model, MultiLevelNca)
    image = torch.from_numpy(prepare(read_image(case.images), loaded.spec.plan).image)[None]
    size = image.shape[2:]
    frames: list[NDArray[np.float32]] = []
    captions: list[str] = []

    def record(level: int, state: Tensor) -> None:
        logits = model.level_logits(level, state)
        multi = loaded.spec.labels.multi_label
        probabilities = logits.sigmoid() if multi else logits.softmax(1)
        large = torch.nn.functional.interpolate(probabilities, size=tuple(size), mode="nearest")
        frames.append(large[0].cpu().numpy())
        scale = " x ".join(map(str, model.scales[level]))
        captions.append(f"level {level + 1}, cells of {scale} voxels")

    with torch.inference_mode():
        model(image.to(loaded.device), RunOptions(record=record))
    write_gif(image[0].numpy(), np.stack(frames), loaded.spec.labels, path, captions=captions)
    return path
