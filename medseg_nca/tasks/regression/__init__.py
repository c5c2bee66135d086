"""The task regression: learn dense real-valued targets, such as depth or distances."""

from medseg_nca.tasks.regression.task import Regression

TASK = Regression()

__all__ = ["TASK", "Regression"]
