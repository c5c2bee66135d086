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
    """Compiled for the processor at hand; needs numba, which brings its own compiler."""

    def refuses(self, cell: Cell, state: Tensor) -> str | None:
        """See :meth:`Engine.refuses`."""
        if state.device.type != "cpu":
            return f"device {state.device.type}"
        if state.dtype == torch.bfloat16 and not torch.is_grad_enabled():
            return None
        if state.dtype not in _DTYPES:
            return f"a state of {str(state.dtype).removeprefix('torch.')}"
        return None

    def bytes_per_cell(self, cell: Cell, state: Tensor) -> float:
        """Two padded states, the result, and the hash of the position.

        Raises:
            DependencyError: if numba is not installed.
        """
        return 3 * _padded(cell, state) * state.element_size() + _HASH_BYTES

    def bytes_kept(self, cell: Cell, state: Tensor) -> float:
        """One padded state; the rest is computed again.

        Raises:
            DependencyError: if numba is not installed.
        """
        return _padded(cell, state) * state.element_size()

    def roll_out(
        self, cell: Cell, state: Tensor, steps: int, fire: Fire, record: Record | None = None
    ) -> Tensor:
        """See :meth:`Engine.roll_out`.

        Raises:
            ConfigError: for a setting that this engine does not serve.
            DependencyError: if numba is not installed.
        """
        if reason := self.refuses(cell, state):
            raise ConfigError(
                f"The engine 'cpu' does not serve {reason}.",
                hint="Set model.engine to auto or reference.",
            )
        _need_numba()
        self.check(cell, state, fire)
        if steps == 0 or not state.numel():
            return state.clone()
        with torch.autocast("cpu", enabled=False):
            return _roll_out(cell, state, steps, fire, record)


def _roll_out(cell: Cell, state: Tensor, steps: int, fire: Fire, record: Record | None) -> Tensor:
    from medseg_nca.nca.kernels.run import Rollout, RolloutFunction

    run = Rollout(cell, state, fire, steps)
    sources = (state, *run.packed.tensors)
    if not (torch.is_grad_enabled() and any(t.requires_grad for t in sources)):
        with run.spare() as states:
            run.start(states, state)
            return run.copy(run.forward(states, record))
    if record is None:
        return RolloutFunction.apply(run, *sources)  # type: ignore[no-any-return, no-untyped-call]
    for step in range(steps):
        run = Rollout(cell, state, fire.advance(step), 1)
        state = RolloutFunction.apply(run, state, *run.packed.tensors)  # type: ignore[no-untyped-call]
        record(state)
    return state


def _padded(cell: Cell, state: Tensor) -> int:
    _need_numba()
    from medseg_nca.nca.kernels.layout import padded_channels

    kind = torch.float32 if state.dtype == torch.bfloat16 else state.dtype
    return padded_channels(cell.channels, kind)


def _need_numba() -> None:
    if not available():
        raise DependencyError(
            "The engine 'cpu' needs numba.", hint="pip install numba, or model.engine=reference"
        )


def available() -> bool:
    """Whether numba can be imported."""
    try:
        import numba  # noqa: F401
    except ImportError:
        return False
    return True


ENGINE = CpuEngine()
