"""A roll-out with its gradient: the states are kept, and the rest is computed again going back."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from medseg_nca.nca.border import border_index
from medseg_nca.nca.cell import Cell
from medseg_nca.nca.fire import Fire
from medseg_nca.nca.gpu import plan
from medseg_nca.nca.gpu.backward import back_perception, back_rule, fold
from medseg_nca.nca.gpu.language import interpreted
from medseg_nca.nca.gpu.run import GpuRollout, launch

_RULE = (
    "K0", "K1", "K2", "CS", "CP", "FP", "HP", "IMAGE", "HIDDEN", "FILTERS", "CONV", "PADDING",
    "NEAR", "NORM", "ACTIVATION", "DIMS", "EVERY", "AWAKE", "PRECISION", "ACC", "WIDE",
)  # fmt: skip
_PERCEPTION = ("K0", "K1", "K2", "CP", "FP", "FILTERS", "CONV", "PRECISION", "ACC", "WIDE")


class GpuBackward:
    """The backward pass of a roll-out.

    Args:
        run: the roll-out, whose steps were computed.
        states: the memory of the states ``(steps + 1, ...)``.
    """

    def __init__(self, run: GpuRollout, states: Tensor) -> None:
        self.run, self.states = run, states
        self.tile = run.tile("backward")
        self.tiles = prod(plan.tile_counts(run.sizes, self.tile))
        self.row = sum(t.numel() for t in run.tensors)
        itemsize, all_tiles = run.dtype.itemsize, self.tiles * run.batch
        self.rows = plan.row_count(self.row, itemsize, all_tiles, interpreted())
        self.width = plan.stored_channels(run.cell.channels, run.dtype)
        self.sums = torch.zeros(self.rows, self.row, dtype=run.dtype, device=run.device)
        self.padded = tuple(n + 2 * r for n, r in zip(run.sizes, run.radii, strict=True))
        self.folds = run.constants["PADDING"] != "zero" and any(run.radii)
        self.features = self._empty(run.sizes, run.features)
        self.base = self._empty(run.sizes, self.width)
        self.beyond = self._empty(self.padded, self.width) if self.folds else self.base

    def _empty(self, sizes: tuple[int, ...], channels: int) -> Tensor:
        run = self.run
        return torch.empty(run.batch, *sizes, channels, dtype=run.dtype, device=run.device)

    def gradients(self, grad: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return the gradients of the first state ``(B, C, *spatial)`` and the packed weights.

        Args:
            grad: gradient of the last state, ``(B, C, *spatial)``.
        """
        run, channels = self.run, self.run.cell.channels
        after, before = (self._empty(run.sizes, self.width) for _ in range(2))
        run.inside(after, channels).copy_(grad)
        after[..., channels:] = 0
        norm = torch.zeros(2, run.packed.w0.shape[1], dtype=run.dtype, device=run.device)
        for step in reversed(range(run.steps)):
            self._rule(after, step, norm)
            self._perception(before)
            after, before = before, after
        total = self.sums.sum(0)
        if run.packed.batch:
            total[-norm.numel() :] += norm.flatten()
        parts = torch.split(total, [t.numel() for t in run.tensors])
        weights = tuple(p.view(t.shape) for p, t in zip(parts, run.tensors, strict=True))
        return run.inside(after, channels), weights

    def _rule(self, after: Tensor, step: int, norm: Tensor) -> None:
        """Take the gradient of the state after a step through the update rule."""
        moments = totals = self.run.tensors[3]
        if self.run.packed.batch:
            moments, count = self.run.moments[step]
            sums = norm.new_zeros(self.rows, norm.numel())
            self._launch_rule(after, step, sums, totals, moments, measure=True)
            own = sums.sum(0)
            norm += own.view_as(norm)
            totals = own / count.to(own.dtype)
        self._launch_rule(after, step, self.sums, totals, moments, measure=False)

    def _launch_rule(
        self, after: Tensor, step: int, sums: Tensor, totals: Tensor, moments: Tensor, *,
        measure: bool,
    ) -> None:  # fmt: skip
        run, tile = self.run, self.tile
        launch(
            back_rule, (self.rows,), self.states[step], after, self.base, self.features, sums,
            totals, *run.tensors, moments, *run.mask, *run.runtime(tile), *run.firing_of(step),
            self.tiles, self.tiles * run.batch, sums.shape[1],
            T0=tile[0], T1=tile[1], T2=tile[2], GS=self.width, MEASURE=measure,
            warps=plan.warp_count(run.rule_width, "backward"),
            **{name: run.constants[name] for name in _RULE},
        )  # fmt: skip

    def _perception(self, out: Tensor) -> None:
        """Take the gradient of the features back through the filters."""
        run = self.run
        sizes = self.padded if self.folds else run.sizes
        tile = plan.tile_shape((sizes[0], sizes[1], sizes[2]), prod(run.forward_tile))
        counts = plan.tile_counts(sizes, tile)
        target = self.beyond if self.folds else out
        radii = run.radii if self.folds else (0, 0, 0)
        launch(
            back_perception, (prod(counts), run.batch), self.features, self.base, target,
            run.tensors[0], *run.sizes, *counts[1:], *radii,
            T0=tile[0], T1=tile[1], T2=tile[2], GS=self.width, FOLD=self.folds, warps=run.warps,
            **{name: run.constants[name] for name in _PERCEPTION},
        )  # fmt: skip
        if self.folds:
            self._fold(out)

    def _fold(self, out: Tensor) -> None:
        run, tile = self.run, self.run.forward_tile
        counts = plan.tile_counts(run.sizes, tile)
        padding = run.constants["PADDING"]
        places = [
            _places(n, r, padding, str(run.device))
            for n, r in zip(run.sizes, run.radii, strict=True)
        ]
        launch(
            fold, (prod(counts), run.batch), self.beyond, self.base, out, *places,
            *run.sizes, *counts[1:], *self.padded, *(p.shape[1] for p in places),
            T0=tile[0], T1=tile[1], T2=tile[2], GS=self.width, warps=run.warps,
            CP=run.constants["CP"], WIDE=run.constants["WIDE"],
        )  # fmt: skip


@lru_cache(maxsize=64)
def _places(size: int, radius: int, padding: str, device: str) -> Tensor:
    """Return for each cell of an axis the positions of the padded axis that copy it.

    int32 ``(size, n)``, -1 where a cell has fewer than n.
    """
    found: list[list[int]] = [[] for _ in range(size)]
    for position, cell in enumerate(border_index(size, radius, padding).tolist()):
        found[cell].append(position)
    most = max(map(len, found))
    rows = [row + [-1] * (most - len(row)) for row in found]
    with torch.inference_mode(False):
        return torch.tensor(rows, dtype=torch.int32, device=device)


class _GpuFunction(torch.autograd.Function):
    """A differentiable roll-out."""

    @staticmethod
    def forward(ctx: Any, run: GpuRollout, state: Tensor, *weights: Tensor) -> Tensor:
        """Return the state ``(B, C, *spatial)`` after all steps."""
        states = run.empty(run.steps + 1)
        run.start(states[0], state.detach())
        last = run.forward(states)
        ctx.run = run
        ctx.save_for_backward(states)
        return run.inside(last, run.cell.channels).clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        """Return the gradients of the state and the packed weights from that of the result."""
        (states,) = ctx.saved_tensors
        state, weights = GpuBackward(ctx.run, states).gradients(grads[0])
        return (None, state, *weights)


def compute(
    cell: Cell,
    state: Tensor,
    steps: int,
    fire: Fire,
    record: Callable[[Tensor], None] | None = None,
    precision: str | None = None,
) -> Tensor:
    """Roll the automaton out, as :meth:`medseg_nca.nca.engines.base.Engine.roll_out` says.

    ``precision`` is that of the matrix products, by default what torch's settings say.
    """
    run = GpuRollout(cell, state, fire, steps, precision)
    sources = (state, *run.packed.tensors)
    if not (torch.is_grad_enabled() and any(t.requires_grad for t in sources)):
        states = run.empty(2)
        run.start(states[0], state.detach())
        return run.inside(run.forward(states, record), cell.channels).clone()
    if record is None:
        return _GpuFunction.apply(run, *sources)  # type: ignore[no-any-return, no-untyped-call]
    for step in range(steps):
        run = GpuRollout(cell, state, fire.advance(step), 1, precision)
        state = _GpuFunction.apply(run, state, *run.packed.tensors)  # type: ignore[no-untyped-call]
        record(state)
    return state
