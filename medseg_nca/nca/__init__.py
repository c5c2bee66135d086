"""The automaton itself: perception, update rule, cell, fire mask, roll-out and the engines."""

from medseg_nca.nca.cell import Cell
from medseg_nca.nca.fire import Fire
from medseg_nca.nca.rollout import roll_out

__all__ = ["Cell", "Fire", "roll_out"]
