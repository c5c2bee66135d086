"""The GPU engine: one fused kernel a step, in Triton.

A step is one kernel that reads each cell and its neighbourhood once and writes the new cell. In
training only the states are kept; the backward pass computes the rest again. See
``docs/engines.md``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from medseg_nca.errors import ConfigError, DependencyError, MemoryBudgetError
from medseg_nca.nca.cell import Cell
from medseg_nca.nca.engines.base import Engine, Record
from medseg_nca.nca.fire import Fire
from medseg_nca.nca.gpu import plan
from medseg_nca.nca.gpu.available import interpreter_asked_for, unusable


class TritonEngine(Engine):
    """Compiled for the device at hand when a kernel is first used.

    It serves CUDA tensors. Where ``TRITON_INTERPRET=1`` was set before Triton was imported, it
    serves CPU tensors too, in Triton's interpreter and slowly: for tests.
    """

    rank = -1  # behind the reference: "auto" does not take it before it has run on a GPU
    devices = ("cuda",)

    def refuses(self, cell: Cell, state: Tensor) -> str | None:
        """See :meth:`Engine.refuses`."""
        kind = state.device.type
        if kind != "cuda" and not (kind == "cpu" and interpreter_asked_for()):
            return f"device {kind}"
        if state.dtype == torch.bfloat16 and torch.is_grad_enabled():
            return "a state of bfloat16 while gradients are recorded"
        return plan.refusal(cell, state.dtype)

    def unusable(self, state: Tensor) -> str | None:
        """See :meth:`Engine.unusable`: what is missing, or what a check before first use found."""
        return unusable(state.device, state.dtype, torch.is_grad_enabled())

    def bytes_per_cell(self, cell: Cell, state: Tensor) -> float:
        """Two states and the result."""
        stored = plan.stored_channels(cell.channels, state.dtype)
        return (2 * stored + cell.channels) * state.element_size()

    def bytes_kept(self, cell: Cell, state: Tensor) -> float:
        """One state; the rest is computed again."""
        return plan.stored_channels(cell.channels, state.dtype) * state.element_size()

    def roll_out(
        self, cell: Cell, state: Tensor, steps: int, fire: Fire, record: Record | None = None
    ) -> Tensor:
        """See :meth:`Engine.roll_out`.

        Raises:
            ConfigError: for a setting that this engine does not serve.
            DependencyError: if the kernels cannot be used here.
            MemoryBudgetError: if the memory of the device is not enough; it names the settings that
                need less.
        """
        if reason := self.refuses(cell, state):
            raise ConfigError(
                f"The engine 'triton' does not serve {reason}.",
                hint="Set model.engine to auto or reference.",
            )
        if reason := self.unusable(state):
            raise DependencyError(
                f"The engine 'triton' cannot be used: {reason}.",
                hint="Set model.engine to auto or reference.",
            )
        self.check(cell, state, fire)
        if steps == 0 or not state.numel():
            return state.clone()
        from medseg_nca.nca.gpu.training import compute

        try:
            return compute(cell, state, steps, fire, record)
        except torch.OutOfMemoryError as error:
            raise _too_large(state, steps) from error


def _too_large(state: Tensor, steps: int) -> MemoryBudgetError:
    """Say what would need less memory."""
    if torch.is_grad_enabled():
        every = max(round(steps**0.5), 1)
        hint = f"Set model.checkpoint={every}, or a lower training.batch_size."
    else:
        hint = (
            "Set a lower prediction.memory_budget_gb, so that the volume is computed in tiles, or "
            "prediction.precision=bfloat16."
        )
    shape = tuple(state.shape)
    return MemoryBudgetError(
        f"{state.device} has not enough free memory for {steps} steps of a state of the shape "
        f"{shape}.",
        hint=hint,
    )


ENGINE = TritonEngine()
