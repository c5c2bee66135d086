"""Models whose weights are written by hand, so that what they show can be foretold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from PIL import Image

from medseg_nca.config import Label, LabelTable, PreprocessPlan
from medseg_nca.config.model import (
    CellSettings,
    LevelSettings,
    NcaModelSettings,
    StopSettings,
    UpdateSettings,
)
from medseg_nca.config.training import PredictionSettings
from medseg_nca.inference.bundle import LoadedModel, ModelSpec, load_bundle, save_bundle
from medseg_nca.inference.task_model import TaskModel, TaskSpec, save_task_model
from medseg_nca.models import build_model
from medseg_nca.nca import Cell
from medseg_nca.tasks import TASKS

LABELS = LabelTable(labels=(Label(name="disc", values=(1,)),))
PULL, CONTRAST = 0.5, 2.0
GRID = 40


def pull(cell: Cell, outputs: int, signs: tuple[float, ...]) -> None:
    """Write a rule by which each firing cell goes half of the way to what the image says.

    ``change = PULL * (sign * CONTRAST * image - hidden)``, a linear rule, as the difference of two
    rectified units. So what is erased comes back: after n updates of a cell a share of 0.5 ** n of
    the damage is left, wherever the cell lies.
    """
    with torch.no_grad():
        for parameter in cell.parameters():
            parameter.zero_()
        for number in range(outputs):
            for unit, sign in ((2 * number, 1.0), (2 * number + 1, -1.0)):
                cell.update.hidden.weight[unit, 0] = sign * PULL * CONTRAST * signs[number]
                cell.update.hidden.weight[unit, 1 + number] = -sign * PULL
                cell.update.output.weight[number, unit] = sign


def settings(dims: Any, outputs: int, levels: tuple[LevelSettings, ...]) -> NcaModelSettings:
    return NcaModelSettings(
        name="pulling_nca", dims=dims, in_channels=1, out_channels=outputs,
        cell=CellSettings(channels=1 + outputs, update=UpdateSettings(hidden=2 * outputs)),
        levels=levels,
    )  # fmt: skip


def plan(dims: Any, normalise: Any = "zscore") -> PreprocessPlan:
    return PreprocessPlan(
        dims=dims, channels=("grey",), spacing=None, crop_size=(8,) * dims, normalise=normalise,
        colour="grey" if dims == 2 else "keep", orientation=None if dims == 2 else "RAS",
    )  # fmt: skip


def segmenting(
    folder: Path,
    dims: Any = 2,
    *,
    scales: tuple[int, ...] = (1,),
    steps: int = 6,
    stop: StopSettings | None = None,
    prediction: PredictionSettings | None = None,
) -> LoadedModel:
    """A model whose label is where the image is brighter than its mean; it mends all damage."""
    levels = tuple(LevelSettings(scale=scale, steps=steps) for scale in scales)
    made = settings(dims, 2, levels)
    model = build_model(made.changed(cell=made.cell.changed(stop=stop)))
    for level in range(len(scales)):
        pull(model.cell(level), 2, (-1.0, 1.0))  # type: ignore[operator]
    spec = ModelSpec(name="pulling", model=model.settings, labels=LABELS, plan=plan(dims),  # type: ignore[arg-type]
                     prediction=prediction or PredictionSettings())  # fmt: skip
    save_bundle(folder, model, spec)
    return load_bundle(folder, "cpu")


def regressing(folder: Path) -> TaskModel:
    """A model whose value is twice the normalised image."""
    target = {"name": "depth", "mean": 0.0, "sd": 1.0, "average": 0.0, "spread": 1.0,
              "low": -2.0, "high": 2.0}  # fmt: skip
    facts = {"plan": plan(2).model_dump(mode="json"), "targets": [target], "unit": "mm"}
    model = settings(2, 1, (LevelSettings(steps=6),))
    return _saved(folder, TaskSpec(name="r", task="regression", model=model, facts=facts), 1)


def classifying(folder: Path) -> TaskModel:
    """A model whose cells vote "bright" where the image is brighter than 100, "dark" elsewhere."""
    facts = {"classes": ["dark", "bright"], "channels": 1, "size": [GRID, GRID],
             "mean": [100.0], "sd": [100.0], "low": [0.0], "high": [255.0]}  # fmt: skip
    model = settings(2, 2, (LevelSettings(steps=6),))
    return _saved(folder, TaskSpec(name="c", task="classification", model=model, facts=facts), 2)


def _saved(folder: Path, spec: TaskSpec, outputs: int) -> TaskModel:
    task = TASKS.get(spec.task)
    module: Any = task.build(spec)
    cell = module.cell if spec.task == "classification" else module.cell(0)
    pull(cell, outputs, (-1.0, 1.0) if outputs == 2 else (1.0,))
    save_task_model(folder, module, spec)
    loaded: TaskModel = task.load(folder, "cpu")
    return loaded


def disc(dims: int = 2) -> np.ndarray[Any, Any]:
    """0 and 200, with a bright disc (a ball in 3D) of radius 12 (7) in the middle."""
    size, radius = (GRID, 12) if dims == 2 else (20, 7)
    places = np.stack(np.meshgrid(*[np.arange(size) - size / 2 + 0.5] * dims, indexing="ij"))
    return np.where((places**2).sum(0) < radius**2, 200, 0).astype(np.uint8)


def picture(path: Path) -> Path:
    """A PNG of the disc."""
    Image.fromarray(disc()).save(path)
    return path


def volume(path: Path) -> Path:
    """A NIfTI of the ball."""
    nib.save(nib.Nifti1Image(disc(3).astype(np.float32), np.eye(4)), path)
    return path
