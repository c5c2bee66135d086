"""Predict files: a real-valued image on the grid of each input, and ``predictions.json``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medseg_nca.cases.case_work import CaseRecord, CaseWork
from medseg_nca.cases.predict_cases import earlier_results, predict_cases, raise_for_failures
from medseg_nca.cases.prediction_inputs import CaseInput, find_cases, refuse_overwriting
from medseg_nca.config.prediction_options import prediction_settings
from medseg_nca.config.training import PredictionSettings
from medseg_nca.errors import DataError, OutputError
from medseg_nca.inference.engine_choice import engine_settings
from medseg_nca.inference.task_model import TaskModel
from medseg_nca.io.formats import image_suffix, stem
from medseg_nca.io.volume import Volume
from medseg_nca.io.write import write_volume
from medseg_nca.job import Job
from medseg_nca.suggest import unknown
from medseg_nca.tasks.base import PredictRequest
from medseg_nca.tasks.regression.options import RegressionFacts
from medseg_nca.tasks.regression.predictor import RealPrediction, RealPredictor
from medseg_nca.tasks.regression.shared import SharedRegression
from medseg_nca.work.case_records import content_key

# The arrays of an answer that are written.
KINDS = ("values", "uncertainty")
# Raise it when the same input, settings and model give other files: all are then made again.
RECORD_VERSION = 1
SUFFIXES = {"nifti": ".nii.gz", "nrrd": ".nrrd", "mha": ".mha", "tiff": ".tiff"}
# The values of a picture are whole numbers from 0, so real values are written as TIFF.
_PICTURES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"}


@dataclass(frozen=True)
class RealRecord(CaseRecord):
    """What became of one input; its files are of the kinds "values" and "uncertainty".

    Where formats were asked for, the kinds are the formats and "uncertainty_<format>".

    Attributes:
        ranges: the smallest and the largest value of each target.
    """

    ranges: Mapping[str, list[float]] = field(default_factory=dict)

    @property
    def line(self) -> str:
        """The files and the range of each target, or the error, for the terminal."""
        if self.error is not None:
            return f"{self.source}: {self.error}"
        ranges = "; ".join(f"{n} {low:.4g} to {high:.4g}" for n, (low, high) in self.ranges.items())
        return f"{', '.join(self.outputs.values())} ({ranges})"

    def facts(self) -> dict[str, Any]:
        """Implement :meth:`CaseRecord.facts`."""
        return {"ranges": dict(self.ranges)}

    @classmethod
    def read_facts(cls, tree: Any) -> dict[str, Any]:
        """Implement :meth:`CaseRecord.read_facts`."""
        return {"ranges": {str(n): [float(v) for v in pair] for n, pair in tree["ranges"].items()}}


@dataclass(frozen=True)
class RealWork(CaseWork[RealRecord, RealPrediction]):
    """One case whose real values are predicted.

    Attributes:
        model: the model with its settings.
        formats: names of the output formats; none stands for the format of the input.
    """

    model: SharedRegression
    formats: tuple[str, ...] = ()

    @property
    def record_class(self) -> type[RealRecord]:
        """Implement :attr:`CaseWork.record_class`."""
        return RealRecord

    @property
    def predictor(self) -> RealPredictor:
        """Implement :attr:`CaseWork.predictor`."""
        return self.model.predictor

    def key(self, contents: Sequence[str]) -> str:
        """Implement :meth:`CaseWork.key`."""
        return content_key(
            RECORD_VERSION, list(contents), self.case.name, self.formats, self.model.key
        )

    def write(
        self, answer: RealPrediction, image: Volume
    ) -> tuple[dict[str, Path], dict[str, Any]]:
        """Implement :meth:`CaseWork.write`: the values, the uncertainty, and their ranges."""
        files = {}
        for kind in KINDS:
            volume = getattr(answer, kind)
            if volume is None:
                continue
            for name, path in _targets(self.case, self.out, self.formats, kind).items():
                write_volume(volume, path)
                files[name] = path
        array, names = answer.values.array, self.predictor.facts.names
        axes = tuple(range(1, array.ndim))
        ends = zip(names, array.min(axes), array.max(axes), strict=True)
        return files, {"ranges": {name: [float(low), float(high)] for name, low, high in ends}}


def predict_files(
    request: PredictRequest, model: TaskModel, facts: RegressionFacts, job: Job
) -> list[RealRecord]:
    """Write the values of every input, and ``predictions.json``.

    The values lie on the grid of the input, in the targets' unit and in the input's format;
    pictures become TIFF of 32-bit floating point, DICOM becomes NIfTI. Finished cases are kept, as
    :func:`medseg_nca.cases.predict_cases.predict_cases` says.

    Raises:
        ConfigError: if a setting does not fit the model.
        DataError: if there is nothing to predict.
        MemoryBudgetError: if the only input needs more memory than the settings allow.
        OutputError: if a format is unknown, a result would overwrite an input or cannot be written.
        SchedulerError: if no worker can be used.
        Interrupted: if the job was cancelled.
        PartialFailure: after the last case, if some cases failed; the results of the others are
            written.
    """
    if not request.inputs:
        raise DataError("There is nothing to predict.", hint="Name files or folders.")
    out, formats, spec = request.out, _formats(request.formats), model.spec
    predictor = RealPredictor(
        model, facts, prediction_settings(facts.prediction, request.options, request.overrides)
    )
    cases = find_cases(
        request.inputs, facts.plan, request.options.get("select"), earlier_results(out, RealRecord)
    )
    _refuse_places(cases, out, formats, predictor.settings)
    results = predict_cases(
        cases,
        request,
        RealRecord,
        lambda place: SharedRegression(predictor, place),
        lambda case, shared: RealWork(case, out, shared, formats),
        {
            "model": spec.name,
            "task": spec.task,
            "weights_sha256": spec.weights_sha256,
            "targets": list(facts.names),
            "unit": facts.unit,
            "settings": {
                **predictor.settings.model_dump(mode="json"),
                **engine_settings(model, predictor.settings.precision),
            },
        },
        facts.plan,
        job,
    )
    raise_for_failures(results, out)
    return results


def _formats(formats: Sequence[str]) -> tuple[str, ...]:
    for name in formats:
        if name not in SUFFIXES:
            raise OutputError(
                unknown("output format", name, sorted(SUFFIXES)),
                hint="Real values are written as nifti, nrrd, mha or tiff.",
            )
    return tuple(dict.fromkeys(formats))


def suffix_of_input(case: CaseInput) -> str:
    """Return the suffix of the input if its format holds real numbers, else a suffix that does."""
    suffix = image_suffix(case.source)
    if case.dicom or suffix is None:
        return ".nii.gz"
    return ".tiff" if suffix in _PICTURES else suffix


def _targets(
    case: CaseInput, out: Path, formats: Sequence[str], kind: str = "values"
) -> dict[str, Path]:
    end = "" if kind == "values" else f"_{kind}"
    if not formats:
        return {kind: out / f"{case.name}{end}{suffix_of_input(case)}"}
    return {
        name if kind == "values" else f"{kind}_{name}": out / f"{case.name}{end}{SUFFIXES[name]}"
        for name in formats
    }


def _refuse_places(
    cases: Sequence[CaseInput], out: Path, formats: Sequence[str], settings: PredictionSettings
) -> None:
    """Refuse results that would overwrite an input, or lie beside an input of the same name.

    Beside an input, a.tiff of a.png would be another image of the same name: the next run would not
    know which of them to predict.

    Raises:
        OutputError: if a result would; the message names the file.
    """
    kinds = KINDS if settings.uncertainty else KINDS[:1]

    def targets(case: CaseInput) -> list[Path]:
        return [path for kind in kinds for path in _targets(case, out, formats, kind).values()]

    refuse_overwriting(cases, targets)
    inputs = {file.resolve() for case in cases for file in case.files}
    beside = {stem(file) for file in inputs if file.parent == out.resolve()}
    for target in (target for case in cases for target in targets(case)):
        if stem(target) in beside:
            raise OutputError(
                f"{target}: would lie beside an input of the same name.",
                hint="Choose an --out that is no folder of inputs.",
            )
