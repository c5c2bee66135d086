"""Segment one case and write its label map; see :mod:`medseg_nca.cases.case_work`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from medseg_nca import __version__
from medseg_nca.cases.case_work import CaseRecord, CaseWork, predict_case
from medseg_nca.cases.quality_notes import as_written, not_estimated, read_estimate
from medseg_nca.errors import DataError, OutputError
from medseg_nca.inference.bundle import ModelSpec
from medseg_nca.inference.predictor import Prediction, Predictor
from medseg_nca.io.segmentation import Algorithm, PredictedDice, Segmentation, check_seg_type
from medseg_nca.io.volume import Volume
from medseg_nca.io.write import write_results, write_volume
from medseg_nca.trust.estimate import Estimate
from medseg_nca.work.case_records import content_key
from medseg_nca.work.shared_model import SharedModel

__all__ = [
    "OutputSettings",
    "Predicting",
    "PredictionRecord",
    "describe",
    "predict_case",
    "write_prediction",
]

# Raise it when the same input, settings and model give other files: all are then made again.
RECORD_VERSION = 3


@dataclass(frozen=True)
class OutputSettings:
    """The formats in which the label map is written.

    Attributes:
        formats: names (:func:`medseg_nca.io.write.result_formats`); none stands for the format of
            the input, and for DICOM SEG if the input is DICOM.
        seg_type: kind of a DICOM SEG: ``binary``, ``fractional`` or ``labelmap``.
    """

    formats: tuple[str, ...] = ()
    seg_type: str = "binary"

    def __post_init__(self) -> None:
        """Refuse a kind of DICOM SEG that does not exist, before anything is predicted."""
        check_seg_type(self.seg_type)


@dataclass(frozen=True)
class PredictionRecord(CaseRecord):
    """What became of one case that was segmented.

    Attributes:
        voxels: number of voxels of each label.
        estimate: how good the label map probably is.
    """

    voxels: Mapping[str, int] = field(default_factory=dict)
    estimate: Estimate = field(default_factory=not_estimated)

    @property
    def line(self) -> str:
        """Files, seconds, voxels of each label and estimated quality, for the terminal."""
        files, quality = "  ".join(self.outputs.values()), self.estimate.in_short
        return f"{files}  {self.seconds:.2f} s  {self.voxels}  quality: {quality}"

    @property
    def empty(self) -> bool:
        """Whether there is a result, and no voxel of it has a label."""
        return self.error is None and not any(self.voxels.values())

    def facts(self) -> dict[str, Any]:
        """Implement :meth:`CaseRecord.facts`."""
        estimate = self.estimate.to_dict()
        return {"voxels": dict(self.voxels), "empty": self.empty, "estimate": estimate}

    @classmethod
    def read_facts(cls, tree: Any) -> dict[str, Any]:
        """Implement :meth:`CaseRecord.read_facts`; an older record has no estimate."""
        return {
            "voxels": {str(name): int(count) for name, count in tree["voxels"].items()},
            "estimate": read_estimate(tree.get("estimate")),
        }


@dataclass(frozen=True)
class Predicting(CaseWork[PredictionRecord, Prediction]):
    """One case to segment.

    Attributes:
        model: the model with its settings.
        output: what is written.
        note: a few words for the descriptions of DICOM results, see :class:`Segmentation`.
    """

    model: SharedModel
    output: OutputSettings = OutputSettings()
    note: str = ""

    @property
    def record_class(self) -> type[PredictionRecord]:
        """Implement :attr:`CaseWork.record_class`."""
        return PredictionRecord

    @property
    def predictor(self) -> Predictor:
        """Implement :attr:`CaseWork.predictor`."""
        return self.model.predictor

    def key(self, contents: Sequence[str]) -> str:
        """Implement :meth:`CaseWork.key`."""
        case = self.case
        part = None if case.part is None else f'Stack="{case.part}"'
        how = (case.label_suffix, case.dicom, part, asdict(self.output), *filter(None, [self.note]))
        return content_key(RECORD_VERSION, list(contents), how, self.model.key)

    def write(self, answer: Prediction, image: Volume) -> tuple[dict[str, Path], dict[str, Any]]:
        """Implement :meth:`CaseWork.write`: the label map, voxels of each label, estimate."""
        spec = self.predictor.spec
        files = _written(answer, replace(describe(answer, image, spec), note=self.note), self)
        array = answer.label_map.array
        voxels = {label.name: int((array == label.written).sum()) for label in spec.labels.labels}
        return files, {"voxels": voxels, "estimate": as_written(answer.estimate)}


def _written(
    prediction: Prediction, segmentation: Segmentation, work: Predicting
) -> dict[str, Path]:
    """Do what :func:`write_prediction` does; a format that cannot hold the case fails it alone."""
    try:
        return write_prediction(prediction, segmentation, work)
    except OutputError as error:
        if isinstance(error.__cause__, OSError):
            raise
        source = work.case.source
        text = error.message if str(source) in error.message else f"{source}: {error.message}"
        raise DataError(text, hint=error.hint) from error


def describe(prediction: Prediction, image: Volume, spec: ModelSpec) -> Segmentation:
    """Return a prediction with all that an output format may have to say about it."""
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
        predicted_dice={
            name: PredictedDice(one.dice, one.low, one.high, one.verdict)
            for name, one in prediction.estimate.labels.items()
        },
    )


def write_prediction(
    prediction: Prediction, segmentation: Segmentation, work: Predicting
) -> dict[str, Path]:
    """Write the results of a case, and return the files by kind, the label map first.

    Raises:
        OutputError: if a file cannot be written.
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
