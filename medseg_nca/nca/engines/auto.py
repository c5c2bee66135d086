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
        """The engine that will compute this roll-out; says so, once."""
        engine, level, text = _choice(cell, state)
        _say(level, text)
        return engine

    def bytes_per_cell(self, cell: Cell, state: Tensor) -> float:
        """That of the engine that will compute it."""
        return _choice(cell, state)[0].bytes_per_cell(cell, state)

    def bytes_kept(self, cell: Cell, state: Tensor) -> float:
        """That of the engine that will compute it."""
        return _choice(cell, state)[0].bytes_kept(cell, state)

    def roll_out(
        self, cell: Cell, state: Tensor, steps: int, fire: Fire, record: Record | None = None
    ) -> Tensor:
        """See :meth:`Engine.roll_out`."""
        return self.choose(cell, state).roll_out(cell, state, steps, fire, record)


def _choice(cell: Cell, state: Tensor) -> tuple[Engine, int, str]:
    """An engine, and how loud to say what about it."""
    plain = reference.ENGINE
    if state.device.type != "cpu":
        return plain, logging.INFO, f"Engine: reference, on {state.device.type}."
    if reason := cpu.ENGINE.refuses(cell, state):
        text = f"Engine: reference. The faster one does not serve {reason}."
        return plain, logging.WARNING, text
    if reason := cpu.unusable(state):
        text = f"Engine: reference. The faster one cannot be used: {reason}."
        return plain, logging.WARNING, text
    return cpu.ENGINE, logging.INFO, "Engine: cpu."


def _say(level: int, text: str) -> None:
    if text not in _said:
        _said.add(text)
        logger.log(level, text)


ENGINE = AutoEngine()
