"""What a predictor does to estimate its own answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from medseg_nca.config.bounds import plain, short
from medseg_nca.config.training import PredictionSettings
from medseg_nca.inference.bundle import LoadedModel
from medseg_nca.inference.second_look import SecondLook, shifted
from medseg_nca.models.base import Sink
from medseg_nca.transforms.encode import written_type
from medseg_nca.transforms.islands import BYTES_A_VOXEL, remove_islands
from medseg_nca.transforms.likeness import Likeness
from medseg_nca.trust.estimate import Estimate, unknown
from medseg_nca.trust.features import Features, Observation, measure
from medseg_nca.trust.judge import Judge

# Settings that change answers so much that an estimate made for others is doubtful.
ANSWERING = ("flips", "fire", "largest", "match_spacing", "step_factor")
NO_SECTION = (
    "The model carries nothing to estimate its answers by; `medseg-nca trust` adds it "
    "from labelled cases."
)
_OFF = "The settings ask for no estimate (prediction.estimate)."
_NO_MEMORY = (
    "The memory budget leaves no room for a second look at the image "
    "(--memory-gb, prediction.memory_budget_gb)."
)
_FLOAT = 4
# Bytes of a voxel while a label's features are measured: a few masks, and the number of its part.
_MASKS = 10

Stream = Callable[[Tensor, Sink], None]


class Estimates:
    """Measures and estimates answers, as far as the settings ask for it and the model can.

    Args:
        loaded: the model.
        settings: how it predicts, with every "auto" decided.
        always: whether features are measured even if the model cannot estimate its answers yet.
    """

    def __init__(self, loaded: LoadedModel, settings: PredictionSettings, *, always: bool) -> None:
        section = loaded.spec.trust if settings.estimate else None
        self._spec = loaded.spec
        self._settings = settings
        self._judge = None if section is None else Judge(section, settings.gate)
        self.wanted = always or section is not None
        self._doubts = () if section is None else _changes(section.prediction, settings)

    def bytes(self, image: Tensor) -> float:
        """Return the memory in bytes that a second look at an image ``(1, C, *S)`` takes.

        It is 0 where none is wanted. The model itself is not counted.
        """
        if not self.wanted:
            return 0.0
        cells = prod(image.shape[2:])
        label = written_type(self._spec.labels).itemsize
        # The shifted image, which may also be padded, and a copy for the features; two maps, and
        # what islands, or the masks of a label and the numbers of its parts, take.
        voxel = 2 * label + max(BYTES_A_VOXEL, _MASKS)
        return float(3 * image.shape[1] * cells * _FLOAT + voxel * cells)

    def features(
        self,
        image: Tensor,
        answer: NDArray[Any],
        spacing: tuple[float, ...],
        stream: Stream,
    ) -> Mapping[str, Features]:
        """Look at the image a second time, and measure what both answers say.

        Args:
            image: the prepared image ``(1, C, *S)``.
            answer: the answer ``(*S)`` on its grid; islands are removed here, in place.
            spacing: size of a voxel in mm.
            stream: runs the model on an image and hands the logits to a sink.
        """
        labels, kept = self._spec.labels, self._settings.kept_labels
        look = SecondLook(labels, answer.shape)
        stream(shifted(image), look.add)
        second = look.answer()
        for one in (answer, second):
            remove_islands(one, kept, labels)
        return measure(
            Observation(
                image=image[0].float().cpu().numpy(),
                spacing=spacing,
                answer=answer,
                second=second,
                values={one.name: labels.predicted_values(one) for one in labels.labels},
                certainty=look.certainty(),
            )
        )

    def estimate(
        self, features: Mapping[str, Features] | None, answer: NDArray[Any], likeness: Likeness
    ) -> Estimate:
        """Return the estimate of an answer.

        Args:
            features: what :meth:`features` returned; None if the memory did not allow it.
            answer: the final label map ``(*S)``.
            likeness: how the image compares with those of the training.
        """
        if not self._settings.estimate:
            return unknown(_OFF)
        if self._judge is None:
            return unknown(NO_SECTION)
        if features is None:
            return unknown(_NO_MEMORY)
        labels = self._spec.labels
        empty = {
            one.name: features[one.name]["log_volume"] <= 0
            or not np.isin(answer, sorted(labels.predicted_values(one))).any()
            for one in labels.labels
        }
        unlike = [
            f"The image is unlike those that the model learned from: {text}."
            for text in likeness.unlike
        ]
        return self._judge.estimate(features, empty, [*unlike, *self._doubts])


def answering(settings: PredictionSettings) -> dict[str, Any]:
    """Return the settings that change answers, as plain values, for a section's record."""
    tree = settings.model_dump(mode="json")
    return {name: tree.get(name, getattr(settings, name)) for name in ANSWERING}


def _changes(fitted: Mapping[str, Any], settings: PredictionSettings) -> tuple[str, ...]:
    """Return a sentence for each setting that is not as it was when the estimate was fitted."""
    now = answering(settings)
    return tuple(
        f"The estimate was fitted with prediction.{name} = {plain(short(value))}, and this answer "
        f"was made with {now[name]}."
        for name, value in fitted.items()
        if name in now and now[name] != value
    )
