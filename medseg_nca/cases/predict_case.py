"""What ``predict`` does to one case, in whatever process: read, predict, write, keep a record."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from medseg_nca import __version__
from medseg_nca.cases.prediction_inputs import CaseInput
from medseg_nca.cases.training_notes import read_likeness
from medseg_nca.datasets.hashing import file_hash
from medseg_nca.errors import DataError, ImageError, OutputError
from medseg_nca.inference.bundle import ModelSpec
from medseg_nca.inference.predictor import Prediction
from medseg_nca.io.atomic import write_json
from medseg_nca.io.peek import peek
from medseg_nca.io.segmentation import Algorithm, Segmentation, check_seg_type
from medseg_nca.io.volume import Volume
from medseg_nca.io.write import write_results, write_volume
from medseg_nca.job import Job
from medseg_nca.work.case_records import (
    WrittenFile,
    content_key,
    invalidate,
    read_record,
    record_path,
)
from medseg_nca.work.shared_model import SharedModel

# To be raised when the same input, settings and model give other files: all are then made again.
RECORD_VERSION = 3


@dataclass(frozen=True)
class OutputSettings:
    """In what the label map is written.

    Attributes:
        formats: names (:func:`medseg_nca.io.write.result_formats`); none is the format of the
            input, and DICOM SEG for DICOM.
        seg_type: of a DICOM SEG: ``binary``, ``fractional`` or ``labelmap``.
    """

    formats: tuple[str, ...] = ()
    seg_type: str = "binary"

    def __post_init__(self) -> None:
        """Refuse a kind of DICOM SEG that does not exist, before anything is predicted."""
        check_seg_type(self.seg_type)


@dataclass(frozen=True)
class PredictionRecord:
    """What became of one case; ``predictions.json`` lists them.

    Attributes:
        name: of the case.
        source: the file that stands for its image.
        out: folder of the results.
        key: of input, settings and model; "" if there is no result.
        files: the results, by kind.
        voxels: of each label.
        seconds: it took, in the run that made it.
        training: how the image compares with those of the training
            (:meth:`medseg_nca.transforms.likeness.Likeness.to_dict`).
        error: why there is no result.
        cached: whether an earlier run made it.
    """

    name: str
    source: Path
    out: Path
    key: str = ""
    files: Mapping[str, WrittenFile] = field(default_factory=dict)
    voxels: Mapping[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    training: Mapping[str, Any] = field(default_factory=dict)
    error: str | None = None
    cached: bool = field(default=False, compare=False)

    @property
    def outputs(self) -> dict[str, str]:
        """The files written, by kind."""
        return {kind: str(self.out / file.name) for kind, file in self.files.items()}

    @property
    def line(self) -> str:
        """The files, the seconds and the voxels of each label, for the terminal."""
        return f"{'  '.join(self.outputs.values())}  {self.seconds:.2f} s  {self.voxels}"

    @property
    def empty(self) -> bool:
        """Whether there is a result, and no voxel of it has a label."""
        return self.error is None and not any(self.voxels.values())

    @classmethod
    def from_tree(cls, tree: Any, out: Path) -> Self | None:
        """Read what ``to_dict`` made; None if it is something else, or has no result.

        A record that version 0.1 left of a case in an unfinished run has neither name nor input.
        """
        try:
            tree = {**tree, **tree.get("record", {})}
            return cls(
                str(tree.get("name", "")), Path(tree.get("input", "")), out, str(tree["key"]),
                {kind: WrittenFile(**file) for kind, file in tree["files"].items()},
                {str(name): int(count) for name, count in tree["voxels"].items()},
                float(tree["seconds"]), read_likeness(tree["training"]),
            )  # fmt: skip
        except (KeyError, TypeError, ValueError, AttributeError):
            return None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        tree: dict[str, Any] = {"input": str(self.source), "seconds": self.seconds}
        if self.error is not None:
            return {**tree, "error": self.error}
        files = {kind: asdict(file) for kind, file in self.files.items()}
        return {
            **tree,
            "outputs": self.outputs,
            "voxels": dict(self.voxels),
            "empty": self.empty,
            "training": dict(self.training),
            "record": {"name": self.name, "key": self.key, "files": files},
        }

    def holds(self, key: str, out: Path) -> bool:
        """Whether it is of this key, and all its files are in that folder."""
        return self.key == key and all(file.is_whole(out) for file in self.files.values())


@dataclass(frozen=True)
class Predicting:
    """One case to predict.

    Attributes:
        case: which.
        out: folder of the results.
        model: with its settings.
        output: what is written.
        known: what an earlier run says of this case.
    """

    case: CaseInput
    out: Path
    model: SharedModel
    output: OutputSettings = OutputSettings()
    known: PredictionRecord | None = None


def predict_case(work: Predicting, job: Job | None = None) -> PredictionRecord:
    """Predict a case, or take what an earlier run made of the same files in the same way.

    Args:
        work: which case, with which model.
        job: told how far the case is.

    Raises:
        DataError: if the case cannot be used.
        MemoryBudgetError: if it needs more memory than the settings allow.
        OutputError: if a result cannot be written.
        Interrupted: if the job was cancelled; an older result then stays.
    """
    case = work.case
    if case.refused is not None:
        raise ImageError(case.refused)
    key = _key(work)
    path = record_path(work.out, case.name)
    tree = read_record(path)
    known = work.known if tree is None else PredictionRecord.from_tree(tree, work.out)
    if known is not None and known.holds(key, work.out):
        return replace(known, name=case.name, source=case.source, out=work.out, cached=True)
    started = time.perf_counter()
    found = _predicted(work, job)
    if tree is not None or work.known is not None:
        invalidate(path)
    record = _record(work, found, key, started)
    write_json(path, record.to_dict())
    return record


def predict_once(work: Predicting, job: Job | None = None) -> PredictionRecord:
    """As :func:`predict_case`, for results that no later run goes on with.

    Nothing of an earlier run is looked for, and no record is left beside the results.
    """
    if work.case.refused is not None:
        raise ImageError(work.case.refused)
    started = time.perf_counter()
    return _record(work, _predicted(work, job), "", started)


def _predicted(work: Predicting, job: Job | None) -> tuple[Volume, Prediction]:
    """The image of a case and what the model says of it."""
    case, predictor = work.case, work.model.predictor
    extent = None if case.dicom else peek(case.files)
    if extent is not None:
        predictor.check_memory(extent, str(case.source))
    volume = case.read()
    return volume, predictor.predict(volume, job)


def _record(
    work: Predicting, found: tuple[Volume, Prediction], key: str, started: float
) -> PredictionRecord:
    """Write the results of a case, and say what became of it."""
    volume, prediction = found
    files = _written(prediction, describe(prediction, volume, work.model.predictor.spec), work)
    return PredictionRecord(
        work.case.name, work.case.source, work.out, key,
        {kind: WrittenFile.of(file, work.out) for kind, file in files.items()},
        _voxels(work.model, prediction), round(time.perf_counter() - started, 4),
        prediction.likeness.to_dict(),
    )  # fmt: skip


def _written(
    prediction: Prediction, segmentation: Segmentation, work: Predicting
) -> dict[str, Path]:
    """As :func:`write_prediction`; a format that cannot hold this case fails no other case."""
    try:
        return write_prediction(prediction, segmentation, work)
    except OutputError as error:
        if isinstance(error.__cause__, OSError):
            raise
        source = work.case.source
        text = error.message if str(source) in error.message else f"{source}: {error.message}"
        raise DataError(text, hint=error.hint) from error


def describe(prediction: Prediction, image: Volume, spec: ModelSpec) -> Segmentation:
    """A prediction with all that an output format may have to say about it."""
    quality = {}
    foreground = prediction.label_map.array != 0
    if prediction.uncertainty is not None and foreground.any():
        quality["uncertainty"] = float(prediction.uncertainty.array[foreground].mean())
    return Segmentation(
        label_map=prediction.label_map,
        labels=spec.labels,
        image=image,
        algorithm=Algorithm(spec.name, spec.weights_sha256[:12] or "unknown", __version__),
        probabilities=prediction.probabilities,
        quality=quality,
    )


def write_prediction(
    prediction: Prediction, segmentation: Segmentation, work: Predicting
) -> dict[str, Path]:
    """Write the results of a case; returns the files by kind, the label map first.

    Raises:
        OutputError: if one cannot be written.
    """
    case, output = work.case, work.output
    files = case.targets(work.out, output.formats)
    if "label_map" in files:
        write_volume(prediction.label_map, files["label_map"])
    else:
        write_results(segmentation, work.out / case.name, list(files), seg_type=output.seg_type)
    suffix = case.label_suffix
    real = ".tiff" if suffix in {".png", ".tif", ".tiff"} else suffix
    for kind in ("probabilities", "uncertainty"):
        volume = getattr(prediction, kind)
        if volume is not None:
            files[kind] = work.out / f"{case.name}_{kind}{real}"
            write_volume(volume, files[kind])
    return files


def _key(work: Predicting) -> str:
    try:
        contents = [file_hash(file) for file in work.case.files]
    except DataError:
        work.case.read()  # its error says better what is wrong
        raise
    case = work.case
    part = None if case.part is None else f'Stack="{case.part}"'
    how = (case.label_suffix, case.dicom, part, asdict(work.output))
    return content_key(RECORD_VERSION, contents, how, work.model.key)


def _voxels(model: SharedModel, prediction: Prediction) -> dict[str, int]:
    array = prediction.label_map.array
    labels = model.predictor.spec.labels.labels
    return {label.name: int((array == label.written).sum()) for label in labels}
