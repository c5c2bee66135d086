"""The task classification: one class for each image, on which the cells agree."""

from medseg_nca.tasks.classification.task import Classification

TASK = Classification()

__all__ = ["TASK", "Classification"]
