"""A tiny run of the task, and data sets for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from medseg_nca.config import RunSettings
from medseg_nca.config.loading import load_settings
from medseg_nca.io.volume import Volume
from medseg_nca.io.write import write_volume

LEVELS = "[{scale: 4, steps: 3}, {scale: 1, steps: [2, 3], patch: 16}]"
TINY = (
    "options.phantom.cases=6", "options.phantom.size=[24, 20]", "training.iterations=4",
    "training.validate_every=2", "training.checkpoint_every=2", "training.batch_size=2",
    "training.max_minutes=null", "model.cell.channels=6", "model.cell.update.hidden=8",
    f"model.levels={LEVELS}", "tracking.enabled=false", "device=cpu",
)  # fmt: skip


def tiny_settings(*overrides: str) -> RunSettings:
    """The preset of the phantom, made small."""
    return load_settings("phantom_depth", (*TINY, *overrides))


def write_array(path: Path, array: Any, spacing: tuple[float, ...] = (1, 1, 1)) -> None:
    """Write ``(*S)`` or ``(C, *S)`` told by the suffix: two axes, or three and more."""
    write_volume(Volume(np.asarray(array), np.diag([*spacing, 1.0])), path)


def write_pairs(
    folder: Path,
    count: int = 4,
    shape: tuple[int, ...] = (20, 16),
    suffix: str = ".tiff",
    spacing: tuple[float, ...] = (1, 1, 1),
) -> Path:
    """Images of noise on a slope, with the slope as target."""
    for number in range(count):
        rng = np.random.default_rng(number)
        slope = np.linspace(1, 5 + number, shape[0])
        target = np.broadcast_to(slope.reshape(-1, *(1,) * (len(shape) - 1)), shape)
        image = target + rng.normal(0, 0.1, shape)
        for name, array in (("images", image), ("targets", target)):
            write_array(
                folder / name / f"c{number}{suffix}", array[None].astype(np.float32), spacing
            )
    return folder
