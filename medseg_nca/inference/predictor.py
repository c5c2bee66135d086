"""The one predictor: from a volume to a label map on the same grid.

Validation, ``evaluate``, ``predict`` and serving all use it, so they cannot disagree.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, combinations
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from medseg_nca.config.training import PredictionSettings
from medseg_nca.errors import ConfigError, ImageError
from medseg_nca.inference.bundle import LoadedModel
from medseg_nca.io.volume import Volume
from medseg_nca.models import RunOptions, SegmentationModel
from medseg_nca.nca.window import cut
from medseg_nca.transforms.encode import decode_channels
from medseg_nca.transforms.prepare import Trace, prepare, restore

FloatArray = NDArray[np.float32]
FireMode = Literal["sample", "mean"]


@dataclass(frozen=True)
class Prediction:
    """What the model says about one volume, all on its grid.

    Attributes:
        label_map: integers, ``(1, *shape)``, with the numbers of the label table.
        probabilities: ``(K, *shape)`` in channel order, if asked for.
        uncertainty: ``(1, *shape)``, the standard deviation of the foreground probability over the
            stochastic passes, if asked for.
    """

    label_map: Volume
    probabilities: Volume | None = None
    uncertainty: Volume | None = None


def flip_sets(axes: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """All combinations of the axes, none of them first."""
    return chain.from_iterable(combinations(axes, n) for n in range(len(axes) + 1))


class Predictor:
    """Runs a loaded model.

    Args:
        loaded: the model with its plan and label table.
        settings: replaces the settings that the model carries.

    Raises:
        ConfigError: if the settings do not fit the model.
        ImageError: (from :meth:`predict`) if a volume does not fit the model or cannot be used.
    """

    def __init__(self, loaded: LoadedModel, settings: PredictionSettings | None = None) -> None:
        self.loaded = loaded
        self.model = loaded.model
        self.spec = loaded.spec
        self.settings = settings or loaded.spec.prediction
        self._check()

    def _check(self) -> None:
        dims, name = self.spec.plan.dims, self.spec.name
        wrong = [axis for axis in self.settings.flips if not 0 <= axis < dims]
        if wrong:
            raise ConfigError(f"prediction.flips: {wrong[0]} is no axis; they are 0 to {dims - 1}.")
        if self.settings.uncertainty and not self.model.stochastic:
            raise ConfigError(
                f"Model {name!r} has no fire mask, so that its passes would all be the same.",
                hint="Leave prediction.uncertainty out.",
            )

    def predict(self, volume: Volume) -> Prediction:
        """Segment one volume ``(C, *shape)``."""
        plan = self.spec.plan
        if volume.dims != plan.dims:
            name = volume.sources[0] if volume.sources else "volume"
            raise ImageError(f"{name}: has {volume.dims} axes; the model needs {plan.dims}.")
        prepared = prepare(volume, plan)
        image = torch.from_numpy(prepared.image).unsqueeze(0).to(self.loaded.device)
        with torch.inference_mode():
            probabilities, spread = self._passes(image)
        whole = restore(_array(probabilities), prepared.trace, self._outside)
        label_map = decode_channels(whole, self.spec.labels)
        keep = self.settings.probabilities
        return Prediction(
            label_map=volume.with_array(label_map[None]),
            probabilities=volume.with_array(whole) if keep else None,
            uncertainty=self._uncertainty(volume, spread, prepared.trace),
        )

    def _passes(self, image: Tensor) -> tuple[Tensor, Tensor | None]:
        """Mean probabilities ``(K, *S)``, and the spread of the foreground over the passes."""
        if not self.settings.uncertainty:
            return self._flips(image, self.settings.seed, self.settings.fire), None
        passes = range(self.settings.uncertainty)
        stack = torch.stack([self._flips(image, self.settings.seed + n, "sample") for n in passes])
        return stack.mean(0), self._foreground(stack).std(0, correction=0)

    def _foreground(self, probabilities: Tensor) -> Tensor:
        if self.spec.labels.multi_label:
            return probabilities.amax(1)
        return 1 - probabilities[:, 0]

    def _flips(self, image: Tensor, seed: int, fire: FireMode | None) -> Tensor:
        total: Tensor | None = None
        sets = list(flip_sets(self.settings.flips))
        for axes in sets:
            spatial = [axis + 2 for axis in axes]
            options = RunOptions(
                seed=seed, fire=fire, memory_gb=self.settings.memory_budget_gb,
                precision=self.settings.precision,
            )  # fmt: skip
            logits = run_padded(self.model, image.flip(spatial), self.spec.plan.crop_size, options)
            probabilities = self._probabilities(logits).flip(spatial)[0]
            total = probabilities if total is None else total + probabilities
        assert total is not None
        return total / len(sets)

    def _probabilities(self, logits: Tensor) -> Tensor:
        return logits.sigmoid() if self.spec.labels.multi_label else logits.softmax(1)

    @property
    def _outside(self) -> tuple[float, ...]:
        """Probabilities of voxels that preprocessing cut off: the background's is 1."""
        labels = self.spec.labels
        return (
            (0.0,) * labels.channels if labels.multi_label else (1.0, *(0.0,) * len(labels.labels))
        )

    def _uncertainty(self, volume: Volume, spread: Tensor | None, trace: Trace) -> Volume | None:
        if spread is None:
            return None
        return volume.with_array(restore(_array(spread.unsqueeze(0)), trace))


def _array(values: Tensor) -> FloatArray:
    array: FloatArray = values.float().cpu().numpy()
    return array


def run_padded(
    model: SegmentationModel, image: Tensor, smallest: tuple[int, ...], options: RunOptions
) -> Tensor:
    """Run a model on ``(B, C, *spatial)`` padded to the size it was trained on, and cut back.

    Border cells are repeated, half on each side, as training samples are padded.
    """
    missing = [max(s - n, 0) for s, n in zip(smallest, image.shape[2:], strict=True)]
    before = [m // 2 for m in missing]
    pads = [v for m, b in zip(missing, before, strict=True) for v in (b, m - b)]
    # F.pad counts from the last axis.
    reverse = [pads[i + j] for i in range(len(pads) - 2, -1, -2) for j in (0, 1)]
    padded = F.pad(image, reverse, mode="replicate") if any(missing) else image
    logits: Tensor = model(padded, options)
    return cut(logits, (slice(b, b + n) for b, n in zip(before, image.shape[2:], strict=True)))
