"""The script that MLflow runs for ``mlflow.pyfunc.load_model`` on a registered model.

MLflow copies this file beside the model ("models from code"); there is no pickle in it. It needs
medseg-nca installed. Our own commands never run it: they read the two data files.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel


class SegmentationPyfunc(PythonModel):
    """Label maps for a batch of images."""

    def load_context(self, context: Any) -> None:
        """Load the two data files."""
        from medseg_nca.inference.bundle import load_bundle
        from medseg_nca.inference.predictor import Predictor

        self.predictor = Predictor(load_bundle(Path(context.artifacts["weights"]).parent))

    # A bare ndarray is an annotation from which MLflow derives no schema; a mapping is taken too.
    def predict(
        self,
        context: Any,
        model_input: np.ndarray,
        params: Any = None,
    ) -> Any:
        """Segment images.

        Args:
            context: MLflow's; not used.
            model_input: array ``(B, C, *spatial)`` on the model's grid, or a mapping with that
                array as "image" and, for another grid, a 4x4 "affine" (voxel to RAS+ mm).
            params: MLflow's; not used.

        Returns:
            Label maps ``(B, *spatial)``, int32, with the numbers of the label table.
        """
        from medseg_nca.errors import ImageError
        from medseg_nca.io.volume import Volume
        from medseg_nca.tracking.reference import model_affine

        plan = self.predictor.spec.plan
        image: Any = model_input
        affine = None
        if isinstance(model_input, Mapping):
            if "image" not in model_input:
                raise ImageError('The input needs the key "image"; "affine" may be given too.')
            image, affine = model_input["image"], model_input.get("affine")
        image = np.asarray(image)
        channels = len(plan.channels)
        if image.ndim != plan.dims + 2 or image.shape[1] != channels:
            raise ImageError(
                f"The image has shape {image.shape}; (batch, channels, *spatial) with {channels} "
                f"channels and {plan.dims} spatial axes is needed."
            )
        grid = model_affine(plan) if affine is None else np.asarray(affine, dtype=np.float64)
        maps = [self.predictor.predict(Volume(sample, grid)).label_map.array[0] for sample in image]
        return np.stack(maps).astype(np.int32)


set_model(SegmentationPyfunc())
