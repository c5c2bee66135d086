"""The seam between the automaton and what computes it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

from torch import Tensor

from medseg_nca.nca.cell import Cell
from medseg_nca.nca.fire import Fire

Record = Callable[[Tensor], None]


class Engine(ABC):
    """Computes roll-outs. The reference engine is the definition; others must agree with it."""

    def refuses(self, cell: Cell, state: Tensor) -> str | None:
        """Name the setting of a roll-out that this engine does not serve; None if it serves all."""
        return None

    @abstractmethod
    def roll_out(
        self, cell: Cell, state: Tensor, steps: int, fire: Fire, record: Record | None = None
    ) -> Tensor:
        """Update the automaton ``steps`` times.

        Args:
            cell: perception and update rule.
            state: ``(B, C, *spatial)``, image channels first; not changed.
            steps: how many steps.
            fire: which cells update, and from which step on.
            record: called with the state ``(B, C, *spatial)`` after every step.

        Returns:
            The new state ``(B, C, *spatial)``.

        Raises:
            NonFiniteStateError: if a value becomes NaN or infinite.
        """
