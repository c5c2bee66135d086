"""A data set that is learned in seconds: is the bright half on the left or on the right?"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from medseg_nca.config import RunSettings
from medseg_nca.config.loading import load_settings

CLASSES = ("left", "right")


def halves(count: int, size: tuple[int, ...] = (6, 6), seed: int = 0) -> np.ndarray:
    """``(count, *size)``: every second image is bright where the last axis ends."""
    images = np.random.default_rng(seed).integers(0, 60, (count, *size))
    images[::2, ..., : size[-1] // 2] += 150
    images[1::2, ..., size[-1] // 2 :] += 150
    return images.astype(np.uint8)


def save_halves(path: Path, count: int = 40, size: tuple[int, ...] = (6, 6)) -> Path:
    """A ``.npz`` file without a prescribed split."""
    labels = np.arange(count) % 2
    np.savez_compressed(path, images=halves(count, size), labels=labels)
    return path


def settings_of(*overrides: str) -> RunSettings:
    """Settings of a training of a second."""
    return load_settings(
        None,
        (
            "task=classification",
            "model={family: nca, name: tiny, head: linear, cell: {channels: 8, "
            "update: {hidden: 16}}, levels: [{steps: [4, 6]}]}",
            "training.iterations=60",
            "training.lr=2e-2",
            "training.batch_size=8",
            "training.ema=null",
            "training.validate_every=30",
            "tracking.enabled=false",
            "evaluation.bootstrap=50",
            "options.class_names=[left, right]",
            *overrides,
        ),
    )
