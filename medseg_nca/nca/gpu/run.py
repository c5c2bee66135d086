"""A roll-out on the kernels."""

from __future__ import annotations

import threading
from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medseg_nca.errors import NonFiniteStateError
from medseg_nca.nca.cell import Cell
from medseg_nca.nca.fire import Fire
from medseg_nca.nca.gpu import plan
from medseg_nca.nca.gpu.forward import step as step_kernel
from medseg_nca.nca.gpu.language import interpreted, tl
from medseg_nca.nca.kernels.rule import PackedRule, pack
from medseg_nca.nca.rounding import rounded
from medseg_nca.nca.update_rules.base import EPS

# The interpreter changes Triton's own modules while it runs.
_interpreter = threading.Lock()
_INT32 = 2**31


def launch(
    kernel: Any, grid: tuple[int, ...], *arguments: Any, warps: int, **constants: Any
) -> None:
    """Start a kernel on the device of its first argument, with ``warps`` times 32 threads."""
    if interpreted():
        with _interpreter, np.errstate(all="ignore"):
            kernel[grid](*arguments, **constants)
    else:
        with torch.cuda.device(arguments[0].device):
            kernel[grid](*arguments, **constants, num_warps=warps, num_stages=plan.STAGES)


def signed(value: int) -> int:
    """The number whose 32 bits, read as a signed number, are those of an unsigned one."""
    return value - (1 << 32) if value >= _INT32 else value


def precision_of(dtype: torch.dtype, device: str) -> str:
    """How matrix products are computed: see ``product`` in :mod:`medseg_nca.nca.gpu.cells`.

    Under torch's autocast they take bfloat16, otherwise what
    ``torch.set_float32_matmul_precision`` says: by default three products of tf32 for one of
    float32, whose error is about that of float32.
    """
    if dtype == torch.float64:
        return "float64"
    if torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device) == torch.bfloat16:
        return "bfloat16 as float32" if interpreted() else "bfloat16"
    if torch.is_autocast_enabled(device) or torch.get_float32_matmul_precision() != "highest":
        return "tf32"
    return "tf32x3"


class GpuRollout:
    """A roll-out of one cell on one grid: all that stays the same from step to step.

    Args:
        cell: perception and update rule.
        state: a state ``(B, C, *spatial)``; only its shape, type and device are read.
        fire: which cells update.
        steps: how many steps.
        precision: of the matrix products, see :func:`precision_of`.
    """

    def __init__(
        self, cell: Cell, state: Tensor, fire: Fire, steps: int, precision: str | None = None
    ) -> None:
        self.cell, self.fire, self.steps = cell, fire, steps
        self.stored, self.device = state.dtype, state.device
        self.dtype = torch.float32 if state.dtype == torch.bfloat16 else state.dtype
        cell = rounded(cell) if state.dtype == torch.bfloat16 else cell
        kind = state.device.type
        self.precision = precision or precision_of(self.dtype, kind)
        with torch.autocast(kind, enabled=False):
            self.packed: PackedRule = pack(cell, fire.scale, self.dtype, plan.power_of_two)
        self.batch, self.spatial = state.shape[0], tuple(state.shape[2:])
        self.sizes = self.three(self.spatial, 1)
        self.width = plan.stored_channels(cell.channels, self.stored)
        radius = cell.perception.radius
        self.radii = self.three((radius,) * cell.dims, 0)
        origin = self.three(fire.origin or (0,) * cell.dims, 0)
        awake = fire.awake_cells(self.spatial)
        self.seeds = torch.tensor(
            [signed(s) for s in fire.seeds], dtype=torch.int32, device=state.device
        )
        self.awake = self.seeds if awake is None else awake.contiguous().view(torch.uint8)
        self.bad = torch.full((1,), steps, dtype=torch.int32, device=state.device)
        self.mask = (self.seeds, self.awake)
        self.origin = origin
        self.tensors = tuple(t.detach().contiguous() for t in self.packed.tensors)
        self.moments: list[tuple[Tensor, Tensor]] = []
        columns = max(self.packed.w1.shape[1], self.packed.filters.shape[-1])
        self.rule_width = plan.width_of(self.packed.w0.shape[1], columns)
        self.warps = plan.warp_count(self.rule_width, "forward")
        self.forward_tile = self.tile("forward")
        self.constants = self._constants(cell, awake is not None)

    def three(self, numbers: tuple[int, ...], middle: int) -> tuple[int, int, int]:
        """Numbers of each axis, for three axes: a 2D grid has one row in the middle."""
        if len(numbers) == 2:
            return numbers[0], middle, numbers[1]
        return numbers[0], numbers[1], numbers[2]

    def tile(self, purpose: str) -> tuple[int, int, int]:
        """Shape of the tile that a program computes."""
        purpose = "interpreted" if interpreted() else purpose
        cells = plan.cells_at_once(
            self.rule_width, self.dtype.itemsize, purpose, self.precision,
            self.packed.convolution,
        )  # fmt: skip
        return plan.tile_shape(self.sizes, cells)

    def _constants(self, cell: Cell, has_awake: bool) -> dict[str, Any]:
        """What the kernels are compiled for."""
        settings, packed = cell.settings, self.packed
        padding = settings.perception.padding
        reach = 0 if padding == "circular" else 1
        near = all(r <= n - reach for r, n in zip(self.radii, self.sizes, strict=True) if r)
        taps = [2 * r + 1 for r in self.radii]
        conv = packed.convolution
        channels = packed.w1.shape[1]
        norm = "batch" if packed.batch else "rms" if packed.norm else "none"
        # With a border beyond the grid, as the backward pass keeps it for reflect and circular.
        cells = prod(n + 2 * r for n, r in zip(self.sizes, self.radii, strict=True))
        wide = cells * max(self.batch, 1) * max(channels, self.features) >= _INT32
        return {
            "K0": taps[0], "K1": taps[1], "K2": taps[2],
            "CS": self.width, "CP": channels,
            "FP": packed.filters.shape[-1] if conv else channels, "HP": packed.w0.shape[1],
            "IMAGE": cell.image_channels, "HIDDEN": packed.units,
            "FILTERS": 1 if conv else packed.filter_count, "CONV": conv, "PADDING": padding,
            "NEAR": near, "NORM": norm, "ACTIVATION": settings.update.activation,
            "DIMS": cell.dims, "EVERY": self.fire.all_cells, "AWAKE": has_awake,
            "PRECISION": self.precision, "WIDE": wide,
            "ACC": tl.float64 if self.dtype == torch.float64 else tl.float32,
        }  # fmt: skip

    @property
    def features(self) -> int:
        """Places for the features of a cell, in memory of the backward pass."""
        packed = self.packed
        return packed.filters.shape[-1] * (1 if packed.convolution else packed.filter_count)

    def empty(self, count: int) -> Tensor:
        """Return memory for ``count`` states ``(count, B, n0, n1, n2, channels)``."""
        shape = (count, self.batch, *self.sizes, self.width)
        return torch.empty(shape, dtype=self.stored, device=self.device)

    def start(self, memory: Tensor, state: Tensor) -> None:
        """Write a state ``(B, C, *spatial)`` into the memory of one."""
        channels = state.shape[1]
        self.inside(memory, channels).copy_(state)
        memory[..., channels:] = 0

    def inside(self, memory: Tensor, channels: int) -> Tensor:
        """Return the state ``(B, C, *spatial)`` in the memory of one; a view."""
        view = memory.view(self.batch, *self.spatial, memory.shape[-1])
        return view[..., :channels].movedim(-1, 1)

    def runtime(self, tile: tuple[int, int, int]) -> tuple[int, ...]:
        """Sizes of the grid, tiles on the last two axes, and the origin, as kernels take them."""
        counts = plan.tile_counts(self.sizes, tile)
        return (*self.sizes, *counts[1:], *self.origin)

    def firing_of(self, step: int) -> tuple[int, int]:
        """Key and level of a step, as kernels take them."""
        return signed(self.fire.key(step)), self.fire.level - _INT32

    def advance(self, before: Tensor, after: Tensor, step: int) -> None:
        """Compute one step from the memory of a state to that of the next."""
        tile = self.forward_tile
        grid = (prod(plan.tile_counts(self.sizes, tile)), self.batch)
        moments = sums = self.tensors[3]
        if self.packed.batch:
            sums = torch.empty(
                prod(grid), 1 + 2 * self.packed.w0.shape[1], dtype=self.dtype, device=self.device
            )
            self._launch_step(grid, tile, before, after, moments, sums, step, measure=True)
            moments, count = _moments(sums)
            self.moments.append((moments, count))
        self._launch_step(grid, tile, before, after, moments, sums, step, measure=False)

    def _launch_step(
        self, grid: tuple[int, ...], tile: tuple[int, int, int], before: Tensor, after: Tensor,
        moments: Tensor, sums: Tensor, step: int, *, measure: bool,
    ) -> None:  # fmt: skip
        launch(
            step_kernel, grid, before, after, *self.tensors, moments, sums, *self.mask, self.bad,
            *self.runtime(tile), *self.firing_of(step), step,
            T0=tile[0], T1=tile[1], T2=tile[2], MEASURE=measure, warps=self.warps,
            **self.constants,
        )  # fmt: skip

    def forward(self, states: Tensor, record: Callable[[Tensor], None] | None = None) -> Tensor:
        """Compute all steps, and return the memory of the last state.

        Step n reads ``states[n]`` and writes ``states[n + 1]``, modulo the number of states. The
        device is waited for once, after all steps.

        Raises:
            NonFiniteStateError: with the first step after which a value is NaN or infinite.
        """
        for step in range(self.steps):
            after = states[(step + 1) % len(states)]
            self.advance(states[step % len(states)], after, step)
            if record is not None:
                record(self.inside(after, self.cell.channels).clone())
        first = int(self.bad)
        if first < self.steps:
            raise NonFiniteStateError(self.fire.first_step + first)
        return states[self.steps % len(states)]


def _moments(sums: Tensor) -> tuple[Tensor, Tensor]:
    """Put the moments of all programs together.

    Returns ``(2, units)``, mean and one over the deviation, and how many cells fire, at least 1.

    In float64 and about the common mean, so that a mean far from zero costs no digits.
    """
    wide = sums.double()
    units = (wide.shape[1] - 1) // 2
    count, mean, squares = wide[:, :1], wide[:, 1 : 1 + units], wide[:, 1 + units :]
    total = count.sum().clamp_min(1)
    middle = (count * mean).sum(0) / total
    variance = (squares + count * (mean - middle).square()).sum(0) / total
    return torch.stack((middle, torch.rsqrt(variance + EPS))).to(sums.dtype), total
