"""Describe a model and what it costs, without running it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from math import prod
from typing import Any

import torch

from medseg_nca.config.model import CellSettings, ModelSettings, NcaModelSettings
from medseg_nca.models.base import SegmentationModel
from medseg_nca.models.costs import inference_steps
from medseg_nca.models.create import build_model
from medseg_nca.models.multilevel import MultiLevelNca
from medseg_nca.nca import Cell
from medseg_nca.nca.engines import get_engine
from medseg_nca.nca.stepwise import around

_DEFAULT_SIZE = {2: (256, 256), 3: (64, 64, 64)}


@dataclass(frozen=True)
class LevelDescription:
    """One level of an automaton, on the grid of an example image.

    ``receptive_field`` is the extent, in voxels per axis, of the region that the logits of one cell
    depend on through this level alone. ``flop`` is the number of floating-point operations of all
    steps of one inference.
    """

    scale: tuple[int, ...]
    grid: tuple[int, ...]
    steps: int
    kernel: int
    parameters: int
    receptive_field: tuple[int, ...]
    flop: float


@dataclass(frozen=True)
class ModelDescription:
    """A model and its cost on an image of ``size`` voxels.

    ``inference_mb`` estimates the working memory of an inference. ``training_mb`` estimates the
    memory of a training step on one sample: what the model's engine keeps of every step for the
    backward pass, on this machine's CPU. Both are in 10^6 bytes.
    """

    name: str
    family: str
    dims: int
    in_channels: int
    out_channels: int
    parameters: int
    size: tuple[int, ...]
    receptive_field: tuple[int, ...] | None
    flop: float | None
    inference_mb: float | None
    training_mb: float | None
    levels: tuple[LevelDescription, ...] = ()
    cell_options: dict[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return asdict(self)


def flop_per_cell(cell: Cell) -> float:
    """Return the floating-point operations of one cell that fires in one step.

    They are those of the filters and of the matrix products.
    """
    return cell.perception.flop + cell.update.flop


def describe(settings: ModelSettings, size: tuple[int, ...] | None = None) -> ModelDescription:
    """Describe the model of these settings.

    Args:
        settings: the model's settings; numbers of channels that are left to the data count as one
            image channel and one label.
        size: voxels per axis of the example image; 256 x 256 or 64 x 64 x 64 by default.

    Raises:
        ConfigError: if the settings do not make a model.
    """
    if isinstance(settings, NcaModelSettings) and settings.cell.alive is not None:
        return _describe_growing(settings, size or _DEFAULT_SIZE[settings.dims])
    missing = {k: 1 for k in ("in_channels", "out_channels") if getattr(settings, k) is None}
    model = build_model(settings.changed(**missing))
    size = size or _DEFAULT_SIZE[model.dims]
    if not isinstance(model, MultiLevelNca):
        return _describe_network(model, settings, size)
    levels = tuple(_describe_level(model, index, size) for index in range(len(model.scales)))
    field = tuple(
        sum(level.receptive_field[a] - 1 for level in levels) + 1 for a in range(model.dims)
    )
    cells = [prod(level.grid) for level in levels]
    working = [
        n * model.engine.bytes_per_cell(model.cell(i), torch.empty(0)) for i, n in enumerate(cells)
    ]
    training = [_training_bytes(model, i, n) for i, n in enumerate(cells)]
    return ModelDescription(
        name=settings.name, family=settings.family, dims=model.dims,
        in_channels=model.in_channels, out_channels=model.out_channels,
        parameters=model.parameter_count(), size=size, receptive_field=field,
        flop=sum(level.flop for level in levels),
        inference_mb=max(working) / 1e6, training_mb=sum(training) / 1e6, levels=levels,
        cell_options=_cell_options(model.settings.cell),
    )  # fmt: skip


def _describe_growing(settings: NcaModelSettings, size: tuple[int, ...]) -> ModelDescription:
    """An automaton that grows from a seed: one cell without an image (task generation)."""
    cell = Cell(settings.cell, settings.in_channels or 0, settings.dims)
    engine = around(get_engine(settings.engine), settings.cell)
    level, cells = settings.resolved_levels[0], prod(size)
    steps = inference_steps(level)
    most = level.steps if isinstance(level.steps, int) else level.steps[1]
    parameters = sum(p.numel() for p in cell.parameters())
    field_size = (2 * steps * cell.radius + 1,) * settings.dims
    flop = flop_per_cell(cell) * cells * steps * settings.cell.fire_rate
    kept = min(most, settings.checkpoint or most)
    empty = torch.empty(0)
    level_found = LevelDescription(
        scale=(1,) * settings.dims, grid=size, steps=steps,
        kernel=2 * cell.perception.radius + 1, parameters=parameters,
        receptive_field=field_size, flop=flop,
    )  # fmt: skip
    return ModelDescription(
        name=settings.name, family=settings.family, dims=settings.dims,
        in_channels=settings.in_channels or 0, out_channels=settings.out_channels or 0,
        parameters=parameters, size=size, receptive_field=field_size, flop=flop,
        inference_mb=cells * engine.bytes_per_cell(cell, empty) / 1e6,
        training_mb=cells * kept * engine.bytes_kept(cell, empty) / 1e6, levels=(level_found,),
        cell_options=_cell_options(settings.cell),
    )  # fmt: skip


def _cell_options(cell: CellSettings) -> dict[str, str]:
    """The options of a cell that are on, as one reads them."""
    words = {}
    for name in cell.options:
        values = getattr(cell, name).model_dump()
        words[name] = ", ".join(f"{key} {value}" for key, value in values.items())
    return words


def _describe_level(model: MultiLevelNca, index: int, size: tuple[int, ...]) -> LevelDescription:
    scale, cell = model.scales[index], model.cell(index)
    steps = inference_steps(model.settings.resolved_levels[index])
    grid = tuple(-(-n // s) for n, s in zip(size, scale, strict=True))
    heard = 2 * steps * cell.radius + 1
    return LevelDescription(
        scale=scale, grid=grid, steps=steps, kernel=2 * cell.perception.radius + 1,
        parameters=sum(p.numel() for p in cell.parameters()),
        receptive_field=tuple(heard * s for s in scale),
        flop=flop_per_cell(cell) * prod(grid) * steps * cell.settings.fire_rate,
    )  # fmt: skip


def _training_bytes(model: MultiLevelNca, index: int, cells: int) -> float:
    """Return the bytes that the steps keep, and those of the states that checkpoints keep."""
    cell, level = model.cell(index), model.settings.resolved_levels[index]
    patch = level.patch
    if patch is not None:
        cells = min(cells, prod((patch,) * model.dims if isinstance(patch, int) else patch))
    steps = level.steps if isinstance(level.steps, int) else level.steps[1]
    per_cell = model.engine.bytes_kept(cell, torch.empty(0))
    kept = steps if model.settings.checkpoint is None else model.settings.checkpoint
    # Patches lie inside patches; their numbers multiply to the views of this level in one sample.
    cells *= prod(level.patches for level in model.settings.resolved_levels[: index + 1])
    return cells * (per_cell * min(kept, steps) + 4 * cell.channels * (steps // max(kept, 1)))


def _describe_network(
    model: SegmentationModel, settings: ModelSettings, size: tuple[int, ...]
) -> ModelDescription:
    return ModelDescription(
        name=settings.name, family=settings.family, dims=model.dims,
        in_channels=model.in_channels, out_channels=model.out_channels,
        parameters=model.parameter_count(), size=size, receptive_field=None, flop=None,
        inference_mb=None, training_mb=None,
    )  # fmt: skip
