"""The task generation: grow targets from a seed, keep them and mend them."""

from medseg_nca.tasks.generation.task import Generation

TASK = Generation()

__all__ = ["TASK", "Generation"]
