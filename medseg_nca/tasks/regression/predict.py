"""Predict files: a real-valued image on the grid of each input, and ``predictions.json``."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from medseg_nca.cases.prediction_inputs import CaseInput, find_cases
from medseg_nca.config.prediction_options import prediction_settings
from medseg_nca.config.training import PredictionSettings
from medseg_nca.datasets.hashing import file_hash
from medseg_nca.errors import DataError, MemoryBudgetError, OutputError, PartialFailure
from medseg_nca.inference.task_model import TaskModel
from medseg_nca.io.atomic import remove_leftovers, write_json
from medseg_nca.io.formats import image_suffix, stem
from medseg_nca.io.peek import peek
from medseg_nca.io.write import write_volume
from medseg_nca.job import Job
from medseg_nca.suggest import unknown
from medseg_nca.tasks.base import PredictRequest, Tree
from medseg_nca.tasks.regression.options import RegressionFacts
from medseg_nca.tasks.regression.predictor import RealPrediction, RealPredictor
from medseg_nca.tasks.regression.shared import SharedRegression
from medseg_nca.work.case_records import (
    WrittenFile,
    content_key,
    finish,
    forget,
    invalidate,
    read_record,
    record_path,
    work_folder,
)
from medseg_nca.work.scheduler import KILLED, Outcome, counted, open_scheduler

logger = logging.getLogger(__name__)

PREDICTIONS = "predictions.json"
# To be raised when the same input, settings and model give other files: all are then made again.
RECORD_VERSION = 1
SUFFIXES = {"nifti": ".nii.gz", "nrrd": ".nrrd", "mha": ".mha", "tiff": ".tiff"}
# A picture's grey values are whole numbers from 0: real values become TIFF.
_PICTURES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"}


@dataclass(frozen=True)
class RealRecord:
    """What became of one input.

    Attributes:
        name: of the case.
        source: the file that stands for its image.
        out: folder of the results.
        key: of input, settings and model; "" if there is no result.
        files: the results by kind: "values" and "uncertainty", or a format for each.
        ranges: smallest and largest value of each target.
        seconds: it took, in the run that made it.
        training: how the image compares with those of the training.
        error: why there is no result.
        cached: whether an earlier run made it.
    """

    name: str
    source: Path
    out: Path
    key: str = ""
    files: Mapping[str, WrittenFile] = field(default_factory=dict)
    ranges: Mapping[str, list[float]] = field(default_factory=dict)
    seconds: float = 0.0
    training: Mapping[str, Any] = field(default_factory=dict)
    error: str | None = None
    cached: bool = field(default=False, compare=False)

    @property
    def line(self) -> str:
        """For the terminal."""
        if self.error is not None:
            return f"{self.source}: {self.error}"
        files = ", ".join(str(self.out / file.name) for file in self.files.values())
        ranges = "; ".join(f"{n} {low:.4g} to {high:.4g}" for n, (low, high) in self.ranges.items())
        return f"{files} ({ranges})"

    @classmethod
    def from_tree(cls, tree: Any, out: Path) -> RealRecord | None:
        """Read what ``to_dict`` made; None if it is something else, or has no result."""
        try:
            record = tree["record"]
            return cls(
                str(record["name"]), Path(tree["input"]), out, str(record["key"]),
                {kind: WrittenFile(**file) for kind, file in record["files"].items()},
                {str(n): [float(v) for v in pair] for n, pair in tree["ranges"].items()},
                float(tree["seconds"]), dict(tree["training"]),
            )  # fmt: skip
        except (KeyError, TypeError, ValueError, AttributeError):
            return None

    def to_dict(self) -> Tree:
        """For ``predictions.json`` and ``--json``."""
        tree: Tree = {"input": str(self.source), "seconds": self.seconds}
        if self.error is not None:
            return {**tree, "error": self.error}
        files = {kind: {"name": f.name, "bytes": f.bytes} for kind, f in self.files.items()}
        return {
            **tree,
            "outputs": {kind: str(self.out / f.name) for kind, f in self.files.items()},
            "ranges": dict(self.ranges),
            "training": dict(self.training),
            "record": {"name": self.name, "key": self.key, "files": files},
        }

    def holds(self, key: str) -> bool:
        """Whether it is of this key, and all its files are there."""
        return self.key == key and all(file.is_whole(self.out) for file in self.files.values())


@dataclass(frozen=True)
class RealWork:
    """One case to predict: which, where to, with what, in which formats, what is known of it."""

    case: CaseInput
    out: Path
    model: SharedRegression
    formats: tuple[str, ...] = ()
    known: RealRecord | None = None


def predict_files(
    request: PredictRequest, model: TaskModel, facts: RegressionFacts, job: Job
) -> list[RealRecord]:
    """Write the values of every input, and ``predictions.json``.

    The values lie on the grid of the input, in the targets' unit, in the input's format; pictures
    become TIFF of 32-bit floating point, DICOM becomes NIfTI. Each finished case is kept, also when
    the run is stopped: the same request goes on from there.

    Raises:
        ConfigError: if a setting does not fit the model.
        DataError: if there is nothing to predict.
        MemoryBudgetError: if the only input needs more memory than the settings allow.
        OutputError: if a format is unknown, a result would overwrite an input or cannot be written.
        SchedulerError: if no worker can be used.
        Interrupted: if the job was cancelled.
        PartialFailure: after the last file, if some failed; the others are written.
    """
    if not request.inputs:
        raise DataError("There is nothing to predict.", hint="Name files or folders.")
    out, formats = request.out, _formats(request.formats, facts)
    predictor = RealPredictor(
        model, facts, prediction_settings(facts.prediction, request.options, request.overrides)
    )
    earlier = {} if request.fresh else _earlier(out)
    written = {(out / f.name).resolve() for r in earlier.values() for f in r.files.values()}
    cases = find_cases(request.inputs, facts.plan, request.options.get("select"), results=written)
    _refuse_overwriting(cases, out, formats, predictor.settings)
    found = _run_each(cases, request, predictor, formats, earlier, job)
    results = [_result(case, found[index], out) for index, case in enumerate(cases)]
    _write_list(results, predictor, out)
    finish(out)
    if len(cases) == 1 and found[0].kind == MemoryBudgetError.__name__:
        raise MemoryBudgetError(str(found[0].error))
    for result in results:
        for words in result.training.get("unlike", ()):
            logger.warning("%s is unlike the images of the training: %s.", result.source, words)
    failed = {result.name: result.error for result in results if result.error}
    if failed:
        raise PartialFailure(
            f"{len(failed)} of {len(results)} inputs failed; {out / PREDICTIONS} says why.",
            hint="Mend them and run the same command again; only they are predicted anew.",
            failures=failed,
        )
    return results


def _run_each(
    cases: Sequence[CaseInput],
    request: PredictRequest,
    predictor: RealPredictor,
    formats: tuple[str, ...],
    earlier: Mapping[str, RealRecord],
    job: Job,
) -> dict[int, Outcome[RealRecord]]:
    """Predict all cases, wherever the request wants it; what became of each, by its number."""
    out = request.out
    with open_scheduler(
        min(request.workers, len(cases)), request.scheduler, work_folder(out)
    ) as spread:
        if request.fresh:
            forget(out, PREDICTIONS)
        remove_leftovers(out)
        shared = SharedRegression(predictor, work_folder(out) if spread.separate else None)
        items = [
            RealWork(
                case.absolute() if spread.remote else case,
                out.absolute() if spread.remote else out,
                shared, formats, earlier.get(case.name),
            )
            for case in cases
        ]  # fmt: skip
        outcomes = spread.run_each(predict_one, items, lambda item: item.case.files, job)
        found: dict[int, Outcome[RealRecord]] = {}
        for outcome in counted(outcomes, job, "predicting", len(cases)):
            found[outcome.index] = outcome
            if outcome.error:
                logger.error("%s", _reason(cases[outcome.index], outcome))
    return found


def predict_one(work: RealWork, job: Job) -> RealRecord:
    """Predict a case, or take what an earlier run made of the same files in the same way.

    Raises:
        DataError: if the case cannot be used.
        MemoryBudgetError: if it needs more memory than the settings allow.
        OutputError: if a result cannot be written.
        Interrupted: if the job was cancelled; an older result then stays.
    """
    case, out = work.case, work.out
    if case.refused is not None:
        case.read()  # raises
    contents = [file_hash(file) for file in case.files]
    key = content_key(RECORD_VERSION, contents, case.name, work.formats, work.model.key)
    path = record_path(out, case.name)
    tree = read_record(path)
    known = work.known if tree is None else RealRecord.from_tree(tree, out)
    if known is not None and known.holds(key):
        return replace(known, name=case.name, source=case.source, out=out, cached=True)
    started = time.perf_counter()
    predictor = work.model.predictor
    extent = None if case.dicom else peek(case.files)
    if extent is not None:
        predictor.check_memory(extent, str(case.source))
    found = predictor.predict(case.read(), job)
    if tree is not None or work.known is not None:
        invalidate(path)
    files = _write(found, case, out, work.formats)
    axes = tuple(range(1, found.values.array.ndim))
    low, high = found.values.array.min(axes), found.values.array.max(axes)
    record = RealRecord(
        case.name, case.source, out, key,
        {kind: WrittenFile.of(file, out) for kind, file in files.items()},
        {n: [float(a), float(b)] for n, a, b in zip(predictor.facts.names, low, high, strict=True)},
        round(time.perf_counter() - started, 4), found.likeness.to_dict(),
    )  # fmt: skip
    write_json(path, record.to_dict())
    return record


def _formats(formats: Sequence[str], facts: RegressionFacts) -> tuple[str, ...]:
    for name in formats:
        if name not in SUFFIXES:
            raise OutputError(
                f"{unknown('output format', name, sorted(SUFFIXES))}",
                hint="Real values are written as nifti, nrrd, mha or tiff.",
            )
    return tuple(dict.fromkeys(formats))


def suffix_of_input(case: CaseInput) -> str:
    """Values keep the input's format, where that holds real numbers."""
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


def _write(
    found: RealPrediction, case: CaseInput, out: Path, formats: Sequence[str]
) -> dict[str, Path]:
    files = {}
    for kind in ("values", "uncertainty"):
        volume = getattr(found, kind)
        if volume is None:
            continue
        for name, path in _targets(case, out, formats, kind).items():
            write_volume(volume, path)
            files[name] = path
    return files


def _refuse_overwriting(
    cases: Sequence[CaseInput], out: Path, formats: Sequence[str], settings: PredictionSettings
) -> None:
    inputs = {file.resolve() for case in cases for file in case.files}
    # Beside an input, a.tiff of a.png would be another image of the same name: the next run would
    # not know which of them to predict.
    beside = {stem(file) for file in inputs if file.parent == out.resolve()}
    kinds = ("values", "uncertainty") if settings.uncertainty else ("values",)
    for case in cases:
        for kind in kinds:
            for target in _targets(case, out, formats, kind).values():
                if target.resolve() in inputs:
                    raise OutputError(
                        f"{target}: is an input and would be overwritten.",
                        hint="Choose another --out.",
                    )
                if stem(target) in beside:
                    raise OutputError(
                        f"{target}: would lie beside an input of the same name.",
                        hint="Choose an --out that is no folder of inputs.",
                    )


def _earlier(out: Path) -> dict[str, RealRecord]:
    """What an earlier run left, by case."""
    entries = (read_record(out / PREDICTIONS) or {}).get("predictions", [])
    records = [RealRecord.from_tree(entry, out) for entry in entries if isinstance(entry, dict)]
    unlisted = [
        RealRecord.from_tree(read_record(path), out) for path in work_folder(out).glob("*.json")
    ]
    return {record.name: record for record in (*records, *unlisted) if record is not None}


def _reason(case: CaseInput, outcome: Outcome[RealRecord]) -> str:
    """Name the file, which errors that nobody expected do not."""
    if outcome.cause:
        return f"{case.source}: failed with an {outcome.error}"
    return f"{case.source}: {KILLED}." if outcome.error == KILLED else str(outcome.error)


def _result(case: CaseInput, outcome: Outcome[RealRecord], out: Path) -> RealRecord:
    if outcome.result is None:
        return RealRecord(case.name, case.source, out, error=_reason(case, outcome))
    return replace(outcome.result, source=case.source, out=out)


def _write_list(results: Sequence[RealRecord], predictor: RealPredictor, out: Path) -> None:
    spec, facts = predictor.model.spec, predictor.facts
    write_json(
        out / PREDICTIONS,
        {
            "model": spec.name,
            "task": spec.task,
            "weights_sha256": spec.weights_sha256,
            "targets": list(facts.names),
            "unit": facts.unit,
            "settings": {
                **predictor.settings.model_dump(mode="json"),
                "engine": predictor.model.engine,
            },
            "predictions": [result.to_dict() for result in results],
        },
    )
