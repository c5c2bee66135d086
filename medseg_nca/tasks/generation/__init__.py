"""The task generation: an automaton grows targets from a seed, keeps them and mends them."""

from medseg_nca.tasks.generation.task import Generation

TASK = Generation()

__all__ = ["TASK", "Generation"]
