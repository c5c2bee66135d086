"""The recipe: what nobody set, decided from the data, the minutes and the machine."""

from medseg_nca.recipe.decide import SET, Decision, Machine, batch_size, decide, is_undecided

__all__ = ["SET", "Decision", "Machine", "batch_size", "decide", "is_undecided"]
