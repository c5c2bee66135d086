"""The automaton on several levels, coarse to fine.

Single-level NCA, Med-NCA (arXiv 2302.03473), M3D-NCA (2309.02954), OctreeNCA (2508.06993) and
cascades are all this model, and differ in their settings only.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medseg_nca.config.model import CellSettings, FocusSettings, LevelSettings, NcaModelSettings
from medseg_nca.errors import ConfigError
from medseg_nca.models.base import LevelOutput, RunOptions, SegmentationModel, Sink
from medseg_nca.models.costs import inference_steps, least_bytes, whole_bytes
from medseg_nca.models.focus import Box, box_around
from medseg_nca.models.geometry import Region, crop, enlarge, level_scales, per_axis
from medseg_nca.models.gradient import lessen_gradient
from medseg_nca.models.head import build_head
from medseg_nca.models.inference import Inference, collect, naming
from medseg_nca.models.views import View, ViewSpec
from medseg_nca.nca import Cell, Fire, roll_out
from medseg_nca.nca.engines import get_engine
from medseg_nca.nca.fire import mix
from medseg_nca.nca.start import RollOutStart
from medseg_nca.nca.stepwise import around


def level_cell(settings: NcaModelSettings, level: LevelSettings) -> CellSettings:
    """Return the cell settings of one level: the model's, with the level's own kernel size."""
    if level.kernel is None:
        return settings.cell
    perception = settings.cell.perception.changed(kernel=level.kernel)
    return settings.cell.changed(perception=perception)


def _resolved(value: int | None, name: str, model: str) -> int:
    if value is None:
        raise ConfigError(
            f"Model {model!r} needs {name}.",
            hint="It comes from the data; without data, set it in the model's settings.",
        )
    return value


class MultiLevelNca(SegmentationModel):
    """An automaton on a list of levels; each level begins from the state of the coarser level.

    A level sees the image averaged over its cells. The hidden channels of the first level start at
    zero; those of every other level start as those of the level before, enlarged (nearest
    neighbour).

    Raises:
        ConfigError: if image and logits do not fit into the state's channels, the scales do not
            divide each other, or a scale or patch has the wrong number of axes.
    """

    def __init__(self, settings: NcaModelSettings) -> None:
        super().__init__()
        self.settings = settings
        self.dims = settings.dims
        self.in_channels = _resolved(settings.in_channels, "in_channels", settings.name)
        self.out_channels = _resolved(settings.out_channels, "out_channels", settings.name)
        self._check_channels()
        self.scales = level_scales(settings.resolved_levels, self.dims)
        for level in settings.resolved_levels:
            per_axis(level.patch or 1, self.dims, "patch")
        self.stochastic = settings.cell.fire_rate < 1
        self.engine = around(get_engine(settings.engine), settings.cell)
        levels = (
            settings.resolved_levels[:1] if settings.share_weights else settings.resolved_levels
        )
        self.cells = nn.ModuleList(
            Cell(level_cell(settings, level), self.in_channels, self.dims) for level in levels
        )
        self.heads = nn.ModuleList(
            build_head(settings, self.in_channels, self.out_channels) for _ in levels
        )
        self.contexts = nn.ModuleList(
            self._context() for _ in settings.resolved_levels[1:] if settings.global_context
        )

    def _check_channels(self) -> None:
        if self.settings.cell.alive is not None:
            raise ConfigError(
                f"Model {self.settings.name!r}: cell.alive needs living cells to begin with, and "
                "the hidden channels of a segmentation begin with zeros: nothing would ever live.",
                hint="Leave model.cell.alive out; the task generation begins with a seed.",
            )
        focus = self.settings.focus
        if focus is not None and focus.background is not False and self.out_channels == 1:
            raise ConfigError(
                f"Model {self.settings.name!r}: focus compares labels with a background, and there "
                "is one output.",
                hint="Set model.focus.background=false.",
            )
        channels, hidden = (
            self.settings.cell.channels,
            self.settings.cell.channels - self.in_channels,
        )
        needed = self.out_channels if self.settings.head == "channels" else 1
        if hidden < needed:
            raise ConfigError(
                f"Model {self.settings.name!r}: cell.channels is {channels}, but the image takes "
                f"{self.in_channels} and the logits {needed}.",
                hint=f"Set model.cell.channels to at least {self.in_channels + needed}.",
            )

    def _context(self) -> nn.Linear:
        hidden = self.settings.cell.channels - self.in_channels
        context = nn.Linear(hidden, hidden)
        nn.init.zeros_(context.weight)
        nn.init.zeros_(context.bias)
        return context

    def cell(self, level: int) -> Cell:
        """Return the cell of a level."""
        cell = self.cells[0 if self.settings.share_weights else level]
        assert isinstance(cell, Cell)
        return cell

    @property
    def steps(self) -> tuple[int, ...]:
        """The steps of each level at inference: of (min, max), the rounded mean."""
        return tuple(inference_steps(level) for level in self.settings.resolved_levels)

    def steps_of(self, options: RunOptions) -> tuple[int, ...]:
        """Return how many steps each level takes with these options.

        Raises:
            ConfigError: if the options name the steps of another number of levels.
        """
        if options.steps is None:
            return self.steps
        if len(options.steps) != len(self.steps):
            raise ConfigError(
                f"steps names {len(options.steps)} levels; model {self.settings.name!r} has "
                f"{len(self.steps)}."
            )
        return options.steps

    def forward(self, image: Tensor, options: RunOptions | None = None) -> Tensor:
        """Map an image to logits as :meth:`SegmentationModel.forward`.

        Raises:
            ConfigError: if the options ask for bfloat16 while gradients are recorded, or do not fit
                the model.
        """
        options = options or RunOptions()
        if options.precision == "bfloat16" and torch.is_grad_enabled():
            raise ConfigError(
                "precision bfloat16 is for inference, but gradients are recorded.",
                hint="Run the model under torch.inference_mode().",
            )
        logits, sink = collect(image, self.out_channels)
        Inference(self, image, options, sink).run()
        return logits

    def stream(self, image: Tensor, options: RunOptions, sink: Sink) -> None:
        """Hand the logits to the sink in parts, as :meth:`SegmentationModel.stream`."""
        Inference(self, image, options, sink).run()

    def roll_out_start(
        self, image: Tensor, level: int, options: RunOptions | None = None
    ) -> RollOutStart:
        """Return what the roll-out of a level begins with, after the levels before it have run.

        All cells of every level are computed, as a whole: neither focus nor tiles are used.

        Args:
            image: ``(B, in_channels, *spatial)``.
            level: index of the level, coarse to fine.
            options: how to run the levels before.
        """
        whole = replace(options or RunOptions(), record=lambda level, state: None)
        return Inference(self, image, whole, lambda window, logits: None).start(level)

    def roll_out_bytes(self, shape: Sequence[int]) -> float:
        """Return the memory in bytes that whole levels take of an image of ``shape`` voxels."""
        return whole_bytes(self, shape)

    def least_bytes(self, shape: Sequence[int], options: RunOptions) -> float:
        """Return the least memory in bytes, as :meth:`SegmentationModel.least_bytes`."""
        return least_bytes(self, shape, options)

    def grids(self, shape: Sequence[int]) -> list[tuple[int, ...]]:
        """Return the cells per axis of each level, for an image of ``shape`` voxels."""
        padded = [-(-n // s) * s for n, s in zip(shape, self.scales[0], strict=True)]
        return [tuple(n // s for n, s in zip(padded, scale, strict=True)) for scale in self.scales]

    def part(self, level: int, cells: Tensor) -> Box:
        """Return the part of the coarser grid that a level runs on.

        It holds all cells in focus, and around them the sleeping cells within the radius, which are
        all that awake cells can see of the rest. It is not smaller than patches of the training.

        Args:
            level: index of the level that runs, from 1.
            cells: bool ``(B, *spatial)``, the cells of the level before that are in focus.
        """
        factor = self.factor(level)
        patch = per_axis(self.settings.resolved_levels[level].patch or 1, self.dims, "patch")
        reach = [-(-self.cell(level).radius // f) for f in factor]
        return box_around(cells, reach, [-(-p // f) for p, f in zip(patch, factor, strict=True)])

    def is_focused(self, level: int) -> bool:
        """Return whether a level runs only on the cells in focus."""
        on_patches = self.settings.resolved_levels[level].patch is not None
        return level > 0 and on_patches and self.settings.focus is not None

    def focus_of(self, level: int, options: RunOptions) -> FocusSettings | None:
        """Return the focus of a level; None if it runs on all cells, as it does while recording."""
        whole = options.record is not None or not self.is_focused(level)
        return None if whole else self.settings.focus

    @property
    def views(self) -> tuple[ViewSpec, ...]:
        """What each level sees of a training sample, as :attr:`SegmentationModel.views`."""
        return tuple(
            ViewSpec(
                scale,
                None if level.patch is None else per_axis(level.patch, self.dims, "patch"),
                level.patches,
            )
            for scale, level in zip(self.scales, self.settings.resolved_levels, strict=True)
        )

    def training_outputs(self, views: Sequence[View], seed: int) -> list[LevelOutput]:
        """Run the model on views, as :meth:`SegmentationModel.training_outputs`."""
        rng = random.Random(seed)
        state = self._first_state(views[0].image)
        outputs = []
        for level, view in enumerate(views):
            if level > 0:
                coarse = views[level - 1].region
                state = lessen_gradient(state, self.settings.coarse_gradient)
                part = self._zoom(state, coarse, view.region, self.factor(level))
                state = self._hand_over(level, part, view.image, state)
            state = self._run_training(level, state, seed, rng)
            weight = self.settings.resolved_levels[level].loss_weight
            outputs.append(LevelOutput(self.level_logits(level, state), weight, state))
        return outputs

    def factor(self, level: int) -> tuple[int, ...]:
        """Return how many times finer a level is than the level before, per axis."""
        coarse = self.scales[max(level - 1, 0)]
        return tuple(c // f for c, f in zip(coarse, self.scales[level], strict=True))

    @staticmethod
    def _zoom(state: Tensor, outer: Region, inner: Region, factor: tuple[int, ...]) -> Tensor:
        """Cut the coarse state around ``inner``, enlarge it, and cut it to exactly ``inner``."""
        times = len(inner.starts) // len(outer.starts)
        origins = tuple(origin for origin in outer.starts for _ in range(times))
        first = tuple(
            tuple(a // f - o for a, f, o in zip(start, factor, origin, strict=True))
            for start, origin in zip(inner.starts, origins, strict=True)
        )
        # A patch that begins inside a coarse cell needs one coarse cell more.
        size = tuple(
            min(-(-n // f) + (1 if f > 1 else 0), o)
            for n, f, o in zip(inner.size, factor, outer.size, strict=True)
        )
        first = tuple(
            tuple(min(a, o - n) for a, o, n in zip(start, outer.size, size, strict=True))
            for start in first
        )
        large = enlarge(crop(state, first, size), factor)
        rest = tuple(
            tuple(a - (o + c) * f for a, o, c, f in zip(start, origin, coarse, factor, strict=True))
            for start, origin, coarse in zip(inner.starts, origins, first, strict=True)
        )
        return crop(large, rest, inner.size)

    def _first_state(self, view: Tensor) -> Tensor:
        hidden = self.settings.cell.channels - self.in_channels
        zeros = view.new_zeros(view.shape[0], hidden, *view.shape[2:])
        return torch.cat((view, zeros), 1)

    def context_shift(self, level: int, coarse: Tensor, kind: torch.dtype) -> Tensor | None:
        """Return what the global context adds to the hidden channels, ``(B, hidden)``; maybe None.

        Args:
            level: index of the level that begins, from 1.
            coarse: state of the level before, ``(B, C, *spatial)``; its mean is the context.
            kind: type in which the mean is computed.
        """
        if not self.settings.global_context:
            return None
        mean = coarse[:, self.in_channels :].flatten(2).mean(-1, dtype=kind)
        shift: Tensor = self.contexts[level - 1](mean)
        return shift

    def _hand_over(self, level: int, coarse: Tensor, view: Tensor, whole: Tensor) -> Tensor:
        """Return a level's first state: the coarse state, enlarged if needed, with a new image.

        Args:
            level: index of the level that begins.
            coarse: state of the level before where the new views lie, ``(N, C, *cells)``.
            view: the image as the level sees it, ``(N, in_channels, *cells)``.
            whole: state over which the global context is averaged.
        """
        state, shift = coarse, self.context_shift(level, whole, view.dtype)
        if shift is not None:
            shift = F.pad(shift, (self.in_channels, 0))
            shift = shift.repeat_interleave(len(state) // len(shift), 0)
            state = state + shift[(..., *(None,) * self.dims)]
        if state.shape[2:] != view.shape[2:]:
            state = enlarge(state, self.factor(level))
        hidden = state.movedim(1, -1)[..., self.in_channels :]
        return torch.cat((view.movedim(1, -1), hidden.to(view.dtype)), -1).movedim(-1, 1)

    def level_logits(self, level: int, state: Tensor) -> Tensor:
        """Map a level's state ``(B, C, *spatial)`` to its logits ``(B, K, *spatial)``."""
        return self._head(level)(state.movedim(1, -1)).movedim(-1, 1)  # type: ignore[no-any-return]

    def _head(self, level: int) -> nn.Module:
        return self.heads[0 if self.settings.share_weights else level]

    def fire_of(self, level: int, batch: int, seed: int, mode: str) -> Fire:
        """Return the fire mask of a level; the seed of each level differs."""
        rate = self.settings.cell.fire_rate
        return Fire.for_batch(rate, mix(seed, level), batch, "mean" if mode == "mean" else "sample")

    def _run_training(self, level: int, state: Tensor, seed: int, rng: random.Random) -> Tensor:
        steps = self.settings.resolved_levels[level].steps
        count = steps if isinstance(steps, int) else rng.randint(*steps)
        fire = self.fire_of(level, state.shape[0], seed, "sample")
        with naming(level):
            return roll_out(
                self.engine, self.cell(level), state, count, fire,
                checkpoint=self.settings.checkpoint,
            )  # fmt: skip
