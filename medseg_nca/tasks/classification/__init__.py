"""The task classification: the cells of an automaton agree on one class for each image."""

from medseg_nca.tasks.classification.task import Classification

TASK = Classification()

__all__ = ["TASK", "Classification"]
