"""Evaluate one case, in whatever process: predict, measure, keep a record."""

from __future__ import annotations

import json
import time
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from medseg_nca.cases.evaluation_inputs import LabelMatch
from medseg_nca.cases.quality_notes import as_written, not_estimated, read_estimate
from medseg_nca.cases.training_notes import read_likeness
from medseg_nca.datasets.base import Case
from medseg_nca.datasets.hashing import file_hash
from medseg_nca.datasets.truth import read_labelled
from medseg_nca.errors import DataError, ImageError
from medseg_nca.io.atomic import atomic_file
from medseg_nca.io.formats import image_suffix
from medseg_nca.io.read import read_label
from medseg_nca.io.volume import Volume
from medseg_nca.io.write import write_volume
from medseg_nca.job import Job
from medseg_nca.metrics.definitions import Values, metrics_of_others
from medseg_nca.metrics.segmentation import case_metrics
from medseg_nca.metrics.summary import CaseResult
from medseg_nca.trust.estimate import Estimate
from medseg_nca.work.case_records import WrittenFile, content_key, record_path
from medseg_nca.work.shared_model import SharedModel

PREDICTIONS = "predictions"
# Raise it when the same files, settings and model give other numbers.
RECORD_VERSION = 2


@dataclass(frozen=True)
class Evaluating:
    """One case to evaluate.

    Attributes:
        case: a case with a label map.
        out: folder of the results.
        model: the model with its settings.
        match: the labels of the data for those of the model.
        tolerance: tolerance of the NSD, in mm.
        save: whether the label map is written to ``out/predictions``.
        known: what an earlier, finished run says of this case; None if there was none.
    """

    case: Case
    out: Path
    model: SharedModel
    match: LabelMatch
    tolerance: float
    save: bool
    known: EvaluationRecord | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """The files of the case: images and label map."""
        label = self.case.label
        return self.case.images if label is None else (*self.case.images, label)

    @property
    def target(self) -> Path:
        """The file of the predicted label map."""
        return self.out / PREDICTIONS / f"{self.case.id}{_suffix(self.case)}"


@dataclass(frozen=True)
class EvaluationRecord:
    """An evaluated case.

    Attributes:
        key: hash of files, settings and model.
        values: metrics, as :func:`medseg_nca.metrics.segmentation.case_metrics` returns them.
        seconds: the time that the prediction took.
        training: how the image compares with those of the training
            (:meth:`medseg_nca.transforms.likeness.Likeness.to_dict`).
        prediction: the file of the label map; None if it was not written.
        estimate: how good the model says that its label map probably is.
        hashes: hashes of the case's files.
        cached: whether an earlier run evaluated the case.
    """

    key: str
    values: Mapping[str, Values]
    seconds: float
    training: Mapping[str, Any]
    prediction: WrittenFile | None = None
    estimate: Estimate = field(default_factory=not_estimated)
    hashes: Mapping[str, str] = field(default_factory=dict, compare=False)
    cached: bool = field(default=False, compare=False)

    @classmethod
    def from_tree(cls, tree: Any) -> Self:
        """Read what ``to_tree`` returned; that of an older version has no estimate.

        Raises:
            KeyError, TypeError, ValueError, AttributeError: if the tree is something else.
        """
        file = tree["prediction"]
        prediction = None if file is None else WrittenFile(**file)
        return cls(
            str(tree["key"]), dict(tree["values"]), float(tree["seconds"]),
            read_likeness(tree["training"]), prediction, read_estimate(tree.get("estimate")),
        )  # fmt: skip

    def to_tree(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        tree = asdict(replace(self, estimate=not_estimated()))
        del tree["hashes"], tree["cached"]
        return {**tree, "estimate": self.estimate.to_dict()}

    def result(self, case_id: str) -> CaseResult:
        """Return the result of the case, as the summary takes it."""
        return CaseResult(case_id, self.values, {"seconds": self.seconds})


def evaluate_case(work: Evaluating, job: Job | None = None) -> EvaluationRecord:
    """Evaluate a case, or take what an earlier run found of the same files in the same way.

    Args:
        work: the case and its model.
        job: gets the progress of the prediction.

    Raises:
        DataError: if the case cannot be used.
        OutputError: if a result cannot be written.
        Interrupted: if the job was cancelled.
    """
    if work.case.label is None:
        raise _no_label(work.case)
    hashes = _hashes(work)
    key = content_key(
        RECORD_VERSION, list(hashes.values()), work.model.key, work.tolerance,
        work.match.truth.model_dump(mode="json"), sorted(work.match.known_values),
        *metrics_of_others(),
    )  # fmt: skip
    path = record_path(work.out, work.case.id, ".npz")
    there = path.exists()
    known = _read_note(path) if there else work.known
    if known is not None and _fits(known, key, work):
        return replace(known, hashes=hashes, cached=True)
    if there or work.known is not None:
        _write(path, {})  # an older record is not true once its results are being replaced
    measured, label_map = _measure(work, key, job)
    _write(path, measured.to_tree(), None if work.save else label_map)
    return replace(measured, hashes=hashes)


def kept_label_map(work: Evaluating) -> NDArray[Any] | None:
    """Return the predicted label map ``(*S)`` of a case; None if it was not kept."""
    path = record_path(work.out, work.case.id, ".npz")
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            if "label_map" in arrays:
                return np.asarray(arrays["label_map"])
    except (OSError, ValueError, EOFError, zipfile.BadZipFile):
        pass
    return np.asarray(read_label(work.target).array[0]) if work.save else None


def read_case(case: Case, match: LabelMatch) -> tuple[Volume, Volume]:
    """Read image and label map of a case and check that they belong together.

    Raises:
        ImageError: if a file cannot be used, their grids differ, or the label map holds a number
            that is not in the data set's table.
    """
    return read_labelled(case, match.known_values)


def _measure(work: Evaluating, key: str, job: Job | None) -> tuple[EvaluationRecord, NDArray[Any]]:
    image, truth = read_case(work.case, work.match)
    predictor = work.model.predictor
    started = time.perf_counter()
    predicted = predictor.predict(image, job)
    prediction = predicted.label_map
    seconds = round(time.perf_counter() - started, 4)
    found = prediction.array[0]
    values = case_metrics(
        found, truth.array[0], predictor.spec.labels, image.spacing, work.tolerance,
        truth_labels=work.match.truth,
    )  # fmt: skip
    saved = None
    if work.save:
        write_volume(prediction, work.target)
        saved = WrittenFile.of(work.target, work.out)
    record = EvaluationRecord(
        key, values, seconds, predicted.likeness.to_dict(), saved, as_written(predicted.estimate)
    )
    return record, found


def _hashes(work: Evaluating) -> dict[str, str]:
    try:
        return {str(path): file_hash(path) for path in work.files}
    except DataError:
        read_case(work.case, work.match)  # its error says better what is wrong
        raise


def _fits(known: EvaluationRecord, key: str, work: Evaluating) -> bool:
    if known.key != key:
        return False
    saved = known.prediction
    return not work.save or (saved is not None and saved.is_whole(work.out))


def _read_note(path: Path) -> EvaluationRecord | None:
    """Return what a record says; None if it is damaged or was invalidated."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return EvaluationRecord.from_tree(json.loads(arrays["note"].tobytes()))
    except (
        OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, zipfile.BadZipFile,
    ):  # fmt: skip
        return None


def _write(path: Path, note: Mapping[str, Any], label_map: NDArray[Any] | None = None) -> None:
    """Write numbers and label map into one file, so that both always come from the same run."""
    arrays: dict[str, Any] = {} if label_map is None else {"label_map": label_map}
    content = np.frombuffer(json.dumps(note).encode(), np.uint8)
    with atomic_file(path) as temporary:
        np.savez_compressed(temporary, note=content, **arrays)


def _no_label(case: Case) -> ImageError:
    return ImageError(f"{case.id}: has no label map.")


def _suffix(case: Case) -> str:
    """Return the suffix of the predicted label map, which has the format of the true one."""
    suffix = image_suffix(case.label) if case.label is not None else None
    return ".png" if suffix in {".jpg", ".jpeg", ".bmp"} else suffix or ".nii.gz"
