"""Predict and measure the cases of an evaluation, one after the other."""

from __future__ import annotations

import logging
import time
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg_nca.config.training import EvaluationSettings
from medseg_nca.datasets.base import Case
from medseg_nca.errors import ImageError, MedsegError, OutputError
from medseg_nca.inference.predictor import Predictor
from medseg_nca.io.formats import image_suffix
from medseg_nca.io.grid import grid_difference
from medseg_nca.io.read import read_image, read_label
from medseg_nca.io.volume import Volume
from medseg_nca.io.write import write_volume
from medseg_nca.metrics.segmentation import case_metrics
from medseg_nca.metrics.summary import CaseResult
from medseg_nca.pipelines.evaluation_report import Example
from medseg_nca.pipelines.selection import LabelMatch

logger = logging.getLogger(__name__)


@dataclass
class Bench:
    """Predicts and measures one case after the other, and keeps what became of each.

    Attributes:
        predictor: with the model, loaded once.
        match: of the labels.
        settings: tolerance of the NSD.
        folder: where predictions are written; None keeps none.
        results: of the cases that succeeded, in order.
        failed: what went wrong, by case.
    """

    predictor: Predictor
    match: LabelMatch
    settings: EvaluationSettings
    folder: Path | None
    results: list[CaseResult] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    kept: dict[str, _Packed] = field(default_factory=dict)
    cases: dict[str, Case] = field(default_factory=dict)

    def measure(self, case: Case) -> None:
        """Evaluate a case; a failure is noted and does not stop the others."""
        try:
            result, label_map = self._measure(case)
        except OutputError:  # a full disk will not be emptier at the next case
            raise
        except (MedsegError, OSError, MemoryError, RuntimeError) as error:
            logger.error("%s failed: %s", case.id, error)
            logger.debug("Caused by:", exc_info=True)
            self.failed[case.id] = str(error) or type(error).__name__
            return
        self.results.append(result)
        self.cases[case.id] = case
        self.kept[case.id] = _Packed.of(label_map)

    def _measure(self, case: Case) -> tuple[CaseResult, NDArray[Any]]:
        image, truth = read_case(case, self.match)
        started = time.perf_counter()
        prediction = self.predictor.predict(image).label_map
        seconds = time.perf_counter() - started
        labels, spacing = self.predictor.spec.labels, image.spacing
        found = prediction.array[0]
        values = case_metrics(
            found, truth.array[0], labels, spacing, self.settings.nsd_tolerance,
            truth_labels=self.match.truth,
        )  # fmt: skip
        if self.folder is not None:
            write_volume(prediction, self.folder / f"{case.id}{_suffix(case)}")
        return CaseResult(case.id, values, {"seconds": round(seconds, 4)}), found

    def example(self, case_id: str, word: str) -> Example:
        """A case with all that is needed to draw it."""
        image, truth = read_case(self.cases[case_id], self.match)
        score = next(r.mean_dice for r in self.results if r.id == case_id)
        return Example(case_id, word, score or 0.0, image, truth.array[0],
                       self.kept[case_id].array())  # fmt: skip


@dataclass(frozen=True)
class _Packed:
    """A label map, compressed: it shrinks to a hundredth, and only three are looked at again."""

    content: bytes
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @classmethod
    def of(cls, array: NDArray[Any]) -> _Packed:
        """Compress an array."""
        return cls(zlib.compress(array.tobytes(), 1), array.shape, array.dtype)

    def array(self) -> NDArray[Any]:
        """The array again."""
        return np.frombuffer(zlib.decompress(self.content), self.dtype).reshape(self.shape)


def read_case(case: Case, match: LabelMatch) -> tuple[Volume, Volume]:
    """Read image and label map of a case and check that they belong together.

    Raises:
        ImageError: if a file cannot be used, their grids differ, or the label map holds a number
            that is not in the data set's table.
    """
    if case.label is None:
        raise ImageError(f"{case.id}: has no label map.")
    image, truth = read_image(case.images), read_label(case.label)
    difference = grid_difference(image, truth)
    if difference is not None:
        raise ImageError(
            f"{case.label}: is not on the grid of its image: {difference}.",
            hint="Resample the label map to the grid of its image.",
        )
    if match.known_values is not None:
        unknown = sorted({int(v) for v in np.unique(truth.array)} - match.known_values)
        if unknown:
            raise ImageError(
                f"{case.label}: holds {unknown[:5]}, which no label of the data set means.",
                hint=f"Its label table knows {sorted(match.known_values)}.",
            )
    return image, truth


def _suffix(case: Case) -> str:
    """Predictions have the format of the label maps."""
    suffix = image_suffix(case.label) if case.label is not None else None
    return ".png" if suffix in {".jpg", ".jpeg", ".bmp"} else suffix or ".nii.gz"
