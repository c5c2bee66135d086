"""Volumes and plans that several tests use."""

from __future__ import annotations

from typing import Any

import numpy as np

from medseg_nca.config import Label, LabelTable, PreprocessPlan
from medseg_nca.io.volume import Volume

TABLE = LabelTable(labels=(Label(name="a", values=(1,)), Label(name="b", values=(4,))))


def plan(dims: int = 3, channels: tuple[str, ...] = ("MRI",), **changes: Any) -> PreprocessPlan:
    """A plan that changes nothing but what is asked for."""
    settings = {"orientation": None, "normalise": "none", "crop_size": (8,) * dims, **changes}
    return PreprocessPlan(dims=dims, channels=channels, **settings)


def affine(codes: str = "RAS", spacing: tuple[float, ...] = (1, 1, 1)) -> Any:
    """An axis-aligned affine whose array axes point along ``codes``."""
    matrix = np.eye(4)
    matrix[:3, :3] = 0
    for axis, code in enumerate(codes):
        row = next(k for k, pair in enumerate(("RL", "AP", "SI")) if code in pair)
        matrix[row, axis] = spacing[axis] * (1 if code in "RAS" else -1)
    matrix[:3, 3] = (3.5, -7.25, 11)
    return matrix


def blobs(
    shape: tuple[int, ...] = (20, 24, 16), matrix: Any = None, channels: int = 1
) -> tuple[Volume, Volume]:
    """A smooth image and a label map with a ball of each label."""
    grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij"))
    first = ((grid - 0.25) ** 2).sum(0) < 0.2
    second = ((grid + 0.45) ** 2).sum(0) < 0.12
    label = np.where(second, 4, first).astype(np.uint8)
    smooth = np.exp(-(grid**2).sum(0)) * 100 + grid[0] * 10
    matrix = np.eye(4) if matrix is None else matrix
    image = np.stack([smooth * (c + 1) for c in range(channels)]).astype(np.float32)
    return Volume(image, matrix), Volume(label[None], matrix)


def center(mask: Any, matrix: Any) -> Any:
    """Centre of mass of a mask, in mm."""
    index = np.argwhere(mask).mean(0)
    full = np.array([*index, *[0] * (3 - len(index)), 1])
    return (matrix @ full)[:3]
