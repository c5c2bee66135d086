"""Time and memory of one forward pass of a whole model."""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from medseg_nca.benchmark.step import find_engine
from medseg_nca.benchmark.timing import Effort, measure
from medseg_nca.errors import ConfigError
from medseg_nca.models import SegmentationModel, create_model, model_names
from medseg_nca.models.describe import flop_per_cell
from medseg_nca.models.multilevel import MultiLevelNca
from medseg_nca.nca import Cell, Fire
from medseg_nca.nca.engines.base import Engine, Record
from medseg_nca.nca.stepwise import around

# Engine of a network that is no automaton.
TORCH = "torch"
# Voxels per axis: large enough for the coarsest grid of the networks.
_WARM_UP = 16


def find_model(reference: str, like: SegmentationModel | None = None) -> SegmentationModel:
    """Find a trained model by any of its names, or build an untrained one by the registry's name.

    Args:
        reference: ``zoo:NAME``, a run folder, ``models:/NAME/VERSION`` and so on, or ``unet``.
        like: gives an untrained model its axes and channels; one image channel and one label, and
            the preset's axes, without it.

    Raises:
        MedsegError: if there is no such model.
    """
    from medseg_nca.tracking.resolve import load_segmentation

    if reference not in model_names():
        return load_segmentation(reference, device="cpu").model
    if like is None:
        return create_model(reference, in_channels=1, out_channels=1).eval()
    settings = {"dims": like.dims, "in_channels": like.in_channels}
    return create_model(reference, **settings, out_channels=like.out_channels).eval()


def prepared_image(path: str, model: str) -> Tensor:
    """An image as a trained model sees it, ``(1, C, *spatial)``.

    Raises:
        MedsegError: if the model is not a trained one, or the image cannot be read or prepared.
    """
    from medseg_nca.io.read import read_volume
    from medseg_nca.tracking.resolve import load_segmentation
    from medseg_nca.transforms.prepare import prepare

    if model in model_names():
        raise ConfigError(
            f"Model {model!r} is not trained: it does not say how an image is prepared.",
            hint="Name a trained one, for example zoo:hippocampus.",
        )
    plan = load_segmentation(model, device="cpu").spec.plan
    return torch.from_numpy(prepare(read_volume(Path(path)), plan).image).float().unsqueeze(0)


def measure_model(
    model: str, engine: str, size: list[int], like: str | None, effort: Effort,
    image: str | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Measure one forward pass in inference mode.

    Args:
        model: see :func:`find_model`.
        engine: of an automaton; "torch" for a network.
        size: of the volume, in voxels; it is noise without an image.
        like: the model whose axes and channels an untrained one takes.
        effort: how long to measure.
        image: reference of a file that :func:`prepared_image` can read, prepared as for ``like``.

    Returns:
        ``seconds`` and ``best_seconds`` a pass, ``repeats``, ``peak_mb``, ``flop``, ``cells``
        (voxels), ``parameters`` and ``steps`` (None for a network).

    Raises:
        MedsegError: if there is no such model, or the engine does not serve it.
    """
    torch.set_num_threads(effort.threads)
    torch.manual_seed(0)
    found = find_model(model, None if like in (None, model) else find_model(str(like)))
    if isinstance(found, MultiLevelNca):
        found.engine = around(find_engine(engine), found.settings.cell)
    seen = torch.randn(1, found.in_channels, *size)
    if image is not None:
        seen = prepared_image(image, str(like))

    def action(volume: Tensor = seen) -> None:
        with torch.inference_mode():
            found(volume)

    action(torch.randn(1, found.in_channels, *(_WARM_UP,) * found.dims))
    numbers = measure(action, effort)
    facts: dict[str, Any] = {"parameters": found.parameter_count(), "cells": prod(size)}
    if isinstance(found, MultiLevelNca):
        counter = _Counting(find_engine(engine))
        # Inside of what heeds the options of a cell, it counts the steps that were really taken.
        found.engine = around(counter, found.settings.cell)
        action()
        return {**numbers, **facts, "flop": counter.flop, "steps": counter.steps}
    return {**numbers, **facts, "flop": _counted_flop(found, seen), "steps": None}


class _Counting(Engine):
    """Counts what a forward pass asks for: steps, and operations of the cells that update."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.steps, self.flop = 0, 0.0

    def roll_out(
        self, cell: Cell, state: Tensor, steps: int, fire: Fire, record: Record | None = None
    ) -> Tensor:
        """See :meth:`Engine.roll_out`."""
        awake = fire.awake_cells(state.shape[2:])
        cells = state[:, 0].numel() if awake is None else int(awake.sum())
        updating = cells * (1.0 if fire.all_cells else fire.rate)
        self.steps += steps
        self.flop += flop_per_cell(cell) * updating * steps
        return self.engine.roll_out(cell, state, steps, fire, record)


def _counted_flop(model: SegmentationModel, image: Tensor) -> float:
    """Convolutions and products of a network, as torch counts them."""
    from torch.utils.flop_counter import FlopCounterMode

    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(image)
    return float(counter.get_total_flops())
