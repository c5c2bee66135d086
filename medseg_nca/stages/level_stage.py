"""The stage of models that map an image to an answer for every voxel, on one or several levels."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, prod

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medseg_nca.config.training import PredictionSettings
from medseg_nca.errors import ConfigError
from medseg_nca.inference.predictor import padded
from medseg_nca.inference.step_factor import scaled_steps
from medseg_nca.models.first_state import first_state
from medseg_nca.models.geometry import pad_to_multiple, shrink
from medseg_nca.models.multilevel import MultiLevelNca
from medseg_nca.nca import Cell, Fire
from medseg_nca.nca.engines.base import Engine
from medseg_nca.stages.stage import Stage, StageLevel


class LevelStage(Stage):
    """A :class:`Stage` of a :class:`MultiLevelNca`; tasks add what its answer looks like.

    Args:
        model: the automaton.
        image: the prepared image ``(C, *S)``.
        spacing: mm between its voxels, per axis.
        smallest: size that the model was trained on; a smaller image is padded to it, as the
            predictor does.
        most_voxels: an image with more voxels is made smaller.
        device: where to compute.
        prediction: how the model is used: its fire mask, and how many times its trained steps.
    """

    def __init__(
        self,
        model: MultiLevelNca,
        image: NDArray[np.float32],
        spacing: Sequence[float],
        smallest: Sequence[int],
        most_voxels: int,
        device: torch.device,
        prediction: PredictionSettings,
    ) -> None:
        self.model = model
        self.mode = prediction.fire or model.settings.fire
        self.block = block_of(image.shape[1:], most_voxels)
        tensor = torch.from_numpy(np.ascontiguousarray(image))[None].to(device)
        tensor = shrink(pad_to_multiple(tensor, self.block), self.block)
        self.input, self.place = padded(tensor, smallest)
        self.dims = model.dims
        self.spacing = tuple(s * b for s, b in zip(spacing, self.block, strict=True))
        self.image = self.input[0].cpu().numpy()
        self.fixed = model.in_channels
        hidden = model.settings.cell.channels - model.in_channels
        self.names = (
            *(f"image {number}" for number in range(model.in_channels)),
            *(f"hidden {number}" for number in range(hidden)),
        )
        self.levels = tuple(
            StageLevel(steps, grid, scale)
            for steps, grid, scale in zip(
                scaled_steps(model, prediction.step_factor) or model.steps,
                model.grids(self.input.shape[2:]), model.scales, strict=True,
            )
        )  # fmt: skip
        if prod(self.block) > 1:
            size = " x ".join(map(str, image.shape[1:]))
            now = " x ".join(map(str, self.image.shape[1:]))
            self.notes = (
                f"The image of {size} voxels was made smaller, to {now}: the film shows how the "
                "automaton works, not how good it is.",
            )

    def start(self, level: int, before: Tensor | None) -> Tensor:
        """Implement :meth:`Stage.start`."""
        return first_state(self.model, self.input, level, before)

    def cell(self, level: int) -> Cell:
        """Implement :meth:`Stage.cell`."""
        return self.model.cell(level)

    def engine(self, level: int) -> Engine:
        """Implement :meth:`Stage.engine`."""
        return self.model.engine

    def fire(self, level: int, state: Tensor, seed: int) -> Fire:
        """Implement :meth:`Stage.fire`."""
        return self.model.fire_of(level, len(state), seed, self.mode)

    @torch.inference_mode()
    def logits(self, level: int, state: Tensor) -> NDArray[np.float32]:
        """Return what the level answers, ``(K, *cells)``."""
        found: NDArray[np.float32] = self.model.level_logits(level, state)[0].float().cpu().numpy()
        return found

    def on_voxels(self, level: int, cells: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return a mask of cells for every voxel of :attr:`image`."""
        assert self.image is not None
        for axis, factor in enumerate(self.levels[level].scale):
            cells = cells.repeat(factor, axis)
        return cells[tuple(slice(0, n) for n in self.image.shape[1:])]

    def truth_on_voxels(self, truth: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return a label map ``(L, *S)`` of the prepared image on the voxels of :attr:`image`."""
        assert self.image is not None
        for axis, block in enumerate(self.block, start=1):
            places = np.arange(block // 2, truth.shape[axis] + block // 2, block)
            truth = truth.take(np.minimum(places, truth.shape[axis] - 1), axis)
        sizes = zip(self.place, self.image.shape[1:], strict=True)
        return np.pad(truth, ((0, 0), *((part.start, n - part.stop) for part, n in sizes)))


def block_of(shape: Sequence[int], most: int) -> tuple[int, ...]:
    """Return how many voxels are averaged along each axis, so that at most ``most`` are left."""
    block = max(ceil((prod(shape) / most) ** (1 / len(shape))), 1)
    while prod(-(-n // block) for n in shape) > most:
        block += 1
    return tuple(min(block, n) for n in shape)


def automaton(model: object, name: str, kind: str) -> MultiLevelNca:
    """Return the network of a model, if it is an automaton.

    Raises:
        ConfigError: if it is another network; the message names it.
    """
    if not isinstance(model, MultiLevelNca):
        raise ConfigError(
            f"Model {name!r} is the network {kind!r} and no automaton: it takes no steps, so "
            "nothing moves in it.",
            hint="Choose a model of family nca.",
        )
    return model
