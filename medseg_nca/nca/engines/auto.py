"""The automatic choice: the fastest engine that serves a roll-out."""

from __future__ import annotations

import logging

from torch import Tensor

from medseg_nca.nca.cell import Cell
from medseg_nca.nca.engines import cpu, reference
from medseg_nca.nca.engines.base import Engine, Record
from medseg_nca.nca.fire import Fire

logger = logging.getLogger(__name__)
_said: set[str] = set()


class AutoEngine(Engine):
    """Asks the CPU engine first, and says once what was chosen and why."""

    def choose(self, cell: Cell, state: Tensor) -> Engine:
        """The engine that will compute this roll-out."""
        if state.device.type != "cpu":
            _say(logging.INFO, f"Engine: reference, on {state.device.type}.")
            return reference.ENGINE
        if not cpu.available():
            _say(logging.WARNING, "Engine: reference. numba, which the faster one needs, is not "
                 "installed: pip install numba")  # fmt: skip
            return reference.ENGINE
        if reason := cpu.ENGINE.refuses(cell, state):
            _say(logging.WARNING, f"Engine: reference. The faster one does not serve {reason}.")
            return reference.ENGINE
        _say(logging.INFO, "Engine: cpu.")
        return cpu.ENGINE

    def roll_out(
        self, cell: Cell, state: Tensor, steps: int, fire: Fire, record: Record | None = None
    ) -> Tensor:
        """See :meth:`Engine.roll_out`."""
        return self.choose(cell, state).roll_out(cell, state, steps, fire, record)


def _say(level: int, text: str) -> None:
    if text not in _said:
        _said.add(text)
        logger.log(level, text)


ENGINE = AutoEngine()
