"""The automatic choice: the engine of the highest rank that serves a roll-out."""

from __future__ import annotations

import logging
from functools import cache

from torch import Tensor

from medseg_nca.nca.cell import Cell
from medseg_nca.nca.engines import ENGINES
from medseg_nca.nca.engines.base import Engine, Record
from medseg_nca.nca.fire import Fire

logger = logging.getLogger(__name__)
_NAME = "auto"


class AutoEngine(Engine):
    """Asks every engine, also those of other packages; says what it chose and why.

    Every sentence is said once, however many roll-outs follow.
    """

    def __init__(self) -> None:
        self._said: set[str] = set()

    def choose(self, cell: Cell, state: Tensor) -> Engine:
        """The engine that will compute this roll-out; says so, once."""
        engine, level, text = _choice(cell, state)
        if text not in self._said:
            self._said.add(text)
            logger.log(level, text)
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

    def roll_out_living(
        self, cell: Cell, state: Tensor, steps: int, fire: Fire, record: Record | None = None
    ) -> Tensor | None:
        """See :meth:`Engine.roll_out_living`."""
        return self.choose(cell, state).roll_out_living(cell, state, steps, fire, record)


def chosen_name(cell: Cell, state: Tensor) -> str:
    """Return the name of the engine that "auto" takes for such a roll-out, and log nothing.

    Args:
        cell: perception and update rule.
        state: ``(B, C, *spatial)``; only its type, device and channels count.
    """
    engine = _choice(cell, state)[0]
    return next(name for name, found in _by_rank() if found is engine)


def _choice(cell: Cell, state: Tensor) -> tuple[Engine, int, str]:
    """An engine, and how loud to say what about it.

    It is worth a warning that a faster engine is left out; not that it is made for another device.
    """
    device, missed = state.device.type, []
    for name, engine in _by_rank():
        if engine.devices is not None and device not in engine.devices:
            continue
        reason = _objection(name, engine, cell, state)
        if reason is not None:
            missed.append(reason)
            continue
        where = "" if device == "cpu" else f", on {device}"
        if not missed:
            return engine, logging.INFO, f"Engine: {name}{where}."
        others = "; ".join(missed)
        return engine, logging.WARNING, f"Engine: {name}{where}. Of the faster ones, {others}."
    raise LookupError("the reference engine serves everything")


def _objection(name: str, engine: Engine, cell: Cell, state: Tensor) -> str | None:
    """Why an engine does not compute this roll-out; None if it can.

    An engine of another package that raises an error cannot be used; an error of an engine of the
    library is a fault of the library, and is raised.
    """
    try:
        if (setting := engine.refuses(cell, state)) is not None:
            return f"{name} does not serve {setting}"
        if (reason := engine.unusable(state)) is not None:
            return f"{name} cannot be used: {reason}"
    except Exception as error:  # anything may happen in an engine of others
        if name in ENGINES.own_names:
            raise
        package = ENGINES.others.find(name).package
        return f"{name} cannot be used: {type(error).__name__}: {error} (package {package})"
    return None


@cache
def _by_rank() -> tuple[tuple[str, Engine], ...]:
    """Every engine but this one, the highest rank first."""
    found = [(name, engine) for name, engine in ENGINES.usable() if name != _NAME]
    return tuple(sorted(found, key=lambda entry: (-entry[1].rank, entry[0])))


ENGINE = AutoEngine()
