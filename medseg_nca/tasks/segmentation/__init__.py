"""The task segmentation: its models map images to label maps."""

from medseg_nca.tasks.segmentation.task import Segmentation

TASK = Segmentation()

__all__ = ["TASK", "Segmentation"]
