"""The CPU engine: compiled loops over the cells that fire.

A step reads the neighbourhood of the cells that fire, some hundred at a time, and takes them
through both matrix products while they are in the cache. No array of perceived or hidden values of
all cells exists, and in training only the states are kept. See ``docs/engines.md``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from medseg_nca.errors import ConfigError, DependencyError
from medseg_nca.nca.cell import Cell
from medseg_nca.nca.engines.base import Engine, Record
from medseg_nca.nca.fire import Fire

_DTYPES = (torch.float32, torch.float64)
_HASH_BYTES = 4


class CpuEngine(Engine):
    """Compiled when the package was built, for each kind of vectors that processors have."""

    rank = 10
    devices = ("cpu",)

    def refuses(self, cell: Cell, state: Tensor) -> str | None:
        """See :meth:`Engine.refuses`."""
        if state.device.type != "cpu":
            return f"device {state.device.type}"
        if cell.perception.bank is None:
            return f"cell.perception.kind {cell.settings.perception.kind}"
        if not cell.update.two_layers:
            return f"cell.update.kind {cell.settings.update.kind}"
        if state.dtype == torch.bfloat16 and not torch.is_grad_enabled():
            return None
        if state.dtype not in _DTYPES:
            return f"a state of {str(state.dtype).removeprefix('torch.')}"
        return None

    def unusable(self, state: Tensor) -> str | None:
        """See :meth:`Engine.unusable`: the compiled loops are missing, or compute wrongly here."""
        from medseg_nca.nca.kernels import proof

        return proof.unusable(state.dtype, torch.is_grad_enabled())

    def bytes_per_cell(self, cell: Cell, state: Tensor) -> float:
        """Two padded states, the result, and the hash of the position.

        Raises:
            DependencyError: if the compiled loops cannot be used here.
        """
        return 3 * _padded(cell, state) * state.element_size() + _HASH_BYTES

    def bytes_kept(self, cell: Cell, state: Tensor) -> float:
        """One padded state; the rest is computed again.

        Raises:
            DependencyError: if the compiled loops cannot be used here.
        """
        return _padded(cell, state) * state.element_size()

    def roll_out(
        self, cell: Cell, state: Tensor, steps: int, fire: Fire, record: Record | None = None
    ) -> Tensor:
        """See :meth:`Engine.roll_out`.

        Raises:
            ConfigError: for a setting that this engine does not serve.
            DependencyError: if the compiled loops cannot be used here.
        """
        if reason := self.refuses(cell, state):
            raise ConfigError(
                f"The engine 'cpu' does not serve {reason}.",
                hint="Take the engine auto or reference (--engine; in a training, model.engine).",
            )
        _need_loops(state)
        self.check(cell, state, fire)
        if steps == 0 or not state.numel():
            return state.clone()
        with torch.autocast("cpu", enabled=False):
            from medseg_nca.nca.kernels.run import compute

            return compute(cell, state, steps, fire, record)

    def roll_out_living(
        self, cell: Cell, state: Tensor, steps: int, fire: Fire, record: Record | None = None
    ) -> Tensor | None:
        """See :meth:`Engine.roll_out_living`: for cells that live and die, all cells awake."""
        options = cell.settings
        alone = options.alive is None or options.stop is not None or fire.awake is not None
        recorded = record is not None and torch.is_grad_enabled()
        if alone or recorded or state.dtype not in _DTYPES or steps == 0 or not state.numel():
            return None
        if self.refuses(cell, state) or self.unusable(state):
            return None
        with torch.autocast("cpu", enabled=False):
            from medseg_nca.nca.kernels.living import compute_living

            return compute_living(cell, state, steps, fire, record)


def _padded(cell: Cell, state: Tensor) -> int:
    _need_loops(state)
    from medseg_nca.nca.kernels.layout import padded_channels

    return padded_channels(cell.channels, state.dtype)


def _need_loops(state: Tensor) -> None:
    if reason := ENGINE.unusable(state):
        raise DependencyError(
            f"The engine 'cpu' cannot be used: {reason}.",
            hint="Reinstall medseg_nca, or take the engine auto or reference (--engine; in a "
            "training, model.engine).",
        )


ENGINE = CpuEngine()
