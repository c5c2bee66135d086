"""The task segmentation: its models map images to label maps."""

from medseg_nca.tasks.segmentation.task import SegmentationTask

TASK = SegmentationTask()

__all__ = ["TASK", "SegmentationTask"]
