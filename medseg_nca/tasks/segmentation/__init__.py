"""The task segmentation: learn label maps of a prepared data set."""

from medseg_nca.tasks.segmentation.task import Segmentation

TASK = Segmentation()

__all__ = ["TASK", "Segmentation"]
