"""The script that MLflow runs for ``mlflow.pyfunc.load_model`` on a registered model.

MLflow copies this file beside the model ("models from code"); there is no pickle in it. It needs
medseg-nca installed. Our own commands never run it: they read the two data files.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel


class TaskPyfunc(PythonModel):
    """Answers to a batch of arrays, as the model's task gives them."""

    def load_context(self, context: Any) -> None:
        """Load the two data files."""
        from medseg_nca.tracking.task_files import find_task

        folder = Path(context.artifacts["weights"]).parent
        self.task = find_task(folder)
        self.model = self.task.load(folder)

    # A bare ndarray is an annotation from which MLflow derives no schema; a mapping is taken too.
    def predict(
        self,
        context: Any,
        model_input: np.ndarray,
        params: Any = None,
    ) -> Any:
        """Answer arrays.

        Args:
            context: MLflow's; not used.
            model_input: an array or a mapping of arrays. Of a segmentation: images
                ``(B, C, *spatial)`` on the model's grid, or a mapping with that array as "image"
                and, for another grid, a 4x4 "affine" (voxel to RAS+ mm).
            params: MLflow's; not used.

        Returns:
            Of a segmentation label maps ``(B, *spatial)``, int32, with the numbers of the label
            table; of other tasks what their documentation says.
        """
        return self.task.answer(self.model, model_input)


set_model(TaskPyfunc())
