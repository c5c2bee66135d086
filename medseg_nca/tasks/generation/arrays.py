"""Grow pictures from arrays, for MLflow's ``pyfunc`` and for the stored answer of a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from medseg_nca.errors import ImageError
from medseg_nca.inference.task_model import TaskModel
from medseg_nca.nca.fire import mix
from medseg_nca.suggest import unknown
from medseg_nca.tasks.generation.growth import grow, module_of
from medseg_nca.tasks.generation.prediction import picture_state
from medseg_nca.tracking.stored_answer import MAX_VALUES

FloatArray = NDArray[np.float32]
FORMULA = "seeds-v1"
KEYS = ("steps", "seed", "target", "genome", "image")
_MOST_STEPS = 100_000


def grown(model: TaskModel, value: Any) -> FloatArray:
    """Grow one picture for each row of an input.

    Args:
        model: a model of the task.
        value: an array ``(N, 2)`` of steps and fire seeds; or a mapping of arrays, each of length N
            or 1: "steps", "seed", "target" (numbers), "genome" ``(N, targets)``, and "image"
            ``(N, V, *grid)``, from which growth goes on. Without "steps", the trained number of
            steps is taken; without "seed", 0; without "target", the first target; without "image",
            growth begins with the seed.

    Returns:
        The pictures ``(N, V, *grid)`` float32: red, green and blue multiplied by alpha, and alpha
        (grey and alpha for volumes); axes (x, y[, z]).

    Raises:
        ImageError: if the input does not fit; the message says what is needed.
        NonFiniteStateError: if a state is not finite; the message names the step.
    """
    rows = _rows(model, value)
    count = max(len(column) for column in rows.values())
    module = module_of(model)
    answers = []
    for number in range(count):
        row = {name: c[number if len(c) > 1 else 0] for name, c in rows.items()}
        genome = [float(g) for g in row["genome"]] if "genome" in row else module.genome(
            int(row["target"])
        )  # fmt: skip
        state = module.seed_state(genome)
        if "image" in row:
            state = picture_state(model, torch.as_tensor(row["image"])[None], genome)
        state, _ = grow(model, state, int(row["steps"]), mix(int(row["seed"]), 0))
        answers.append(module.visible(state)[0].float().cpu().numpy())
    return np.stack(answers).astype(np.float32)


def _rows(model: TaskModel, value: Any) -> dict[str, NDArray[Any]]:
    module = module_of(model)
    if not isinstance(value, Mapping):
        array = np.asarray(value)
        if array.ndim != 2 or array.shape[1] != 2 or not len(array):
            raise ImageError(
                f"The input has the shape {array.shape}; needed is (N, 2), steps and seeds, or a "
                f"mapping with {', '.join(KEYS)}."
            )
        value = {"steps": array[:, 0], "seed": array[:, 1]}
    for name in value:
        if name not in KEYS:
            raise ImageError(unknown("input", str(name), KEYS))
    shapes = {
        "genome": (module.shape.targets,),
        "image": (module.shape.visible, *module.shape.grid),
    }
    rows: dict[str, NDArray[Any]] = {
        "steps": np.array([module.steps]), "seed": np.array([0]), "target": np.array([0]),
    }  # fmt: skip
    for name, given in value.items():
        array = np.asarray(given)
        inner = shapes.get(name, ())
        array = array.reshape(1) if not inner and array.ndim == 0 else array
        if array.shape[1:] != inner or not len(array) or array.dtype.kind not in "iuf":
            raise ImageError(
                f"{name} has the shape {array.shape} and the type {array.dtype}; needed are "
                f"numbers of {('N', *inner)}."
            )
        if not np.isfinite(array).all():
            raise ImageError(f"{name}: holds NaN or infinity.")
        rows[name] = array.astype(np.float32 if inner else np.int64)
    lengths = {name: len(column) for name, column in rows.items() if len(column) > 1}
    if len(set(lengths.values())) > 1:
        raise ImageError(f"The inputs have different lengths: {lengths}.")
    if rows["steps"].min() < 1 or rows["steps"].max() > _MOST_STEPS:
        raise ImageError(f"steps must be 1 to {_MOST_STEPS}.")
    if rows["target"].min() < 0 or rows["target"].max() >= module.shape.targets:
        raise ImageError(f"target must be 0 to {module.shape.targets - 1}.")
    return rows


def reference_answer(model: TaskModel) -> FloatArray:
    """Return the picture of every target after the trained steps.

    If there are too many cells to store, only every second, third, ... cell of each axis is taken.
    """
    module = module_of(model)
    answer = grown(model, {"target": np.arange(module.shape.targets)})
    for stride in range(1, max(module.shape.grid) + 1):
        some: Any = (..., *[slice(None, None, stride)] * len(module.shape.grid))
        if answer[some].size <= MAX_VALUES:
            break
    kept: FloatArray = answer[some]
    return kept
