"""One job in a worker: from the folder of its input to the folder of its results."""

from __future__ import annotations

import hashlib
import logging
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from medseg_nca import __version__
from medseg_nca.cases.case_work import predict_once
from medseg_nca.cases.predict_case import OutputSettings, Predicting, PredictionRecord
from medseg_nca.cases.prediction_inputs import CaseInput
from medseg_nca.cases.quality_notes import in_words
from medseg_nca.config.plan import PreprocessPlan
from medseg_nca.config.prediction_options import with_gate
from medseg_nca.config.training import PredictionSettings
from medseg_nca.errors import DataError
from medseg_nca.inference.bundle import LoadedModel
from medseg_nca.inference.engine_choice import engine_settings
from medseg_nca.inference.predictor import Predictor
from medseg_nca.io.atomic import atomic_folder, write_json
from medseg_nca.io.peek import peek
from medseg_nca.io.volume import Volume, spacing_of
from medseg_nca.job import Job
from medseg_nca.serving.errors import clean
from medseg_nca.serving.intake import check_voxels
from medseg_nca.serving.jobs.disk import to_disk
from medseg_nca.serving.jobs.records import JobOptions
from medseg_nca.serving.jobs.store import RESULT
from medseg_nca.serving.label_file import write_label_file
from medseg_nca.serving.workers.messages import ModelInfo, Run
from medseg_nca.serving.workers.view import write_view
from medseg_nca.work.shared_model import SharedModel

# What the results are called, whatever the client's file was called.
NAME = "result"
# Formats whose files are label maps; all others are objects that refer to DICOM.
LABEL_FORMATS = ("nifti", "nrrd", "mha", "png", "tiff")
# Along each axis: enough for every level of a model to run.
_WARM = 48
_TYPES = {
    ".gz": "application/gzip", ".nii": "application/octet-stream", ".dcm": "application/dicom",
    ".nrrd": "application/octet-stream", ".mha": "application/octet-stream",
    ".png": "image/png", ".tif": "image/tiff", ".tiff": "image/tiff",
}  # fmt: skip


def warm(loaded: LoadedModel) -> None:
    """Predict a small made-up image, so that the first real one finds kernels and caches."""
    plan = loaded.spec.plan
    shape = tuple(min(size, _WARM) for size in plan.crop_size)
    ramp = np.linspace(0, 1000, math.prod(shape), dtype=np.float32).reshape(shape)
    array = np.stack([np.sin(ramp) + ramp / 1000 + k for k in range(len(plan.channels))])
    affine = np.eye(4)
    for axis, step in enumerate(plan.usual_spacing):
        affine[axis, axis] = step
    settings = loaded.spec.prediction.changed(unlike="warn")
    Predictor(loaded, settings).predict(Volume(array.astype(np.float32), affine))


def compute(run: Run, loaded: LoadedModel, job: Job) -> None:
    """Predict the image of a job; its results appear in ``run.out``, whole or not at all.

    Raises:
        DataError: if the image cannot be used.
        TooLarge: if it has more voxels than are allowed.
        ConfigError, MemoryBudgetError, OutputError, Interrupted: as ``predict_once``.
    """
    compute_with(run, Predictor(loaded, settings_of(run.options, loaded.spec.prediction)), job)


def settings_of(options: JobOptions, settings: PredictionSettings) -> PredictionSettings:
    """Return the prediction settings of a model, changed by what a job asks for."""
    changed = settings.changed(
        probabilities=options.probabilities or settings.probabilities,
        uncertainty=options.uncertainty or settings.uncertainty,
    )
    return with_gate(changed, acceptable=options.acceptable, miss_rate=options.miss_rate)


def compute_with(run: Run, predictor: Predictor, job: Job) -> None:
    """Do what :func:`compute` does, by a predictor that has the settings of the job."""
    started = time.perf_counter()
    options, plan = run.options, predictor.spec.plan
    with _warnings(run.input) as warnings:
        job.report("reading", 0, 1)
        case = replace(find_case(run.input, options, plan), name=NAME)
        _check_size(case, plan, run.voxels)
        with atomic_folder(run.out) as folder:
            work = Predicting(
                case, folder, SharedModel(predictor), _formats(case, options), options.note
            )
            record = predict_once(work, job)
            files = {_kind(kind): folder / file.name for kind, file in record.files.items()}
            if options.image:
                files["image"] = write_view(case, folder, plan.dims)
            if options.export:
                files["label_file"] = write_label_file(files["label_map"], options, predictor.spec)
            seconds = round(time.perf_counter() - started, 4)
            result = _result(record, files, predictor, run.model, warnings, seconds)
            write_json(folder / RESULT, result)
            to_disk(*(path for path in folder.rglob("*") if path.is_file()), folder)


def find_case(folder: Path, options: JobOptions, plan: PreprocessPlan) -> CaseInput:
    """The one image in a folder that the intake filled.

    Raises:
        DataError: if there is none, or more than one.
        ConfigError: if ``options.select`` is not understood.
    """
    files = tuple(sorted(path for path in folder.iterdir() if path.is_file()))
    if options.kind == "image":
        if len(files) not in (1, len(plan.channels)):
            raise DataError(
                f"The archive holds {len(files)} image files; the model takes one, or one for each "
                f"of its {len(plan.channels)} channels.",
                hint="Send one image at a time.",
            )
        return CaseInput(NAME, files)
    from medseg_nca.cases.prediction_dicom import dicom_cases

    trees = () if len(files) == 1 else (folder,)
    cases = dicom_cases(trees, files if len(files) == 1 else (), plan, options.select or None)
    if len(cases) > 1:
        raise DataError(
            f"The input holds {len(cases)} DICOM volumes, and one is computed at a time.",
            hint="Send one series, or choose one volume, for example by SeriesNumber=4 or "
            "Slices>20: in 'select' of a job, or in a rule of the node.",
        )
    return cases[0]


def _check_size(case: CaseInput, plan: PreprocessPlan, most: int) -> None:
    """Of DICOM; the intake has looked at the headers of all else (``check_fit``)."""
    if case.refused is None and case.found is not None:
        check_voxels(case.found[1].shape, case.found[1].affine, plan, most)


def _formats(case: CaseInput, options: JobOptions) -> OutputSettings:
    """DICOM gives a label map as NIfTI besides its objects: viewers take it, and it is measured."""
    objects = tuple(name for name in options.objects if name != "none")
    if not case.dicom:
        if objects:
            raise DataError(
                f"{objects[0]} refers to the DICOM images that it was made from, and the "
                "upload is no DICOM.",
                hint="Ask for label_map, or send the DICOM series.",
            )
        return OutputSettings((options.format,) if options.format else ())
    if not options.objects:
        objects = ("dicom-seg",)
    return OutputSettings((options.format or "nifti", *objects))


def _result(
    record: PredictionRecord, files: dict[str, Path], predictor: Predictor, model: ModelInfo,
    warnings: list[str], seconds: float,
) -> dict[str, Any]:  # fmt: skip
    """What the client is told of a finished job."""
    training = dict(record.training)
    doubts = [
        f"The image is unlike those that the model learned from: {text}. Look at the result with "
        "care."
        for text in training.get("unlike", ())
    ]
    notes = [f"The image was {training['brought']}."] if training.get("brought") else []
    if record.empty:
        doubts.append("No voxel of the image was given a label.")
    if record.estimate.verdict in ("review", "reject"):
        doubts.append(f"The segmentation {in_words(record.estimate)}")
    return {
        "model": {"name": model.name, "version": model.version, "sha256": model.sha256,
                  "package_version": __version__},
        **engine_settings(predictor.loaded, predictor.settings.precision),
        "seconds": seconds,
        "warnings": [*dict.fromkeys([*doubts, *warnings])],
        "notes": notes,
        "empty": record.empty,
        "estimate": record.estimate.to_dict(),
        "labels": _labels(record, predictor, files.get("label_map")),
        "outputs": {kind: _describe(path) for kind, path in files.items()},
    }  # fmt: skip


def _kind(kind: str) -> str:
    return "label_map" if kind in LABEL_FORMATS else kind.replace("-", "_")


def _describe(path: Path) -> dict[str, Any]:
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    kind = _TYPES.get(path.suffix, "application/octet-stream")
    return {"file": path.name, "type": kind, "bytes": path.stat().st_size, "sha256": digest}


def _labels(
    record: PredictionRecord, predictor: Predictor, label_map: Path | None
) -> list[dict[str, Any]]:
    """Number, voxels and, where there are millimetres, volume of each label."""
    extent = None if label_map is None else peek((label_map,))
    volume = None
    if extent is not None and extent.affine is not None and len(extent.shape) == 3:
        volume = math.prod(spacing_of(extent.affine, 3)) / 1000
    found = []
    for label in predictor.spec.labels.labels:
        voxels = int(record.voxels[label.name])
        ml = None if volume is None else round(voxels * volume, 4)
        found.append({"name": label.name, "value": label.written, "voxels": voxels, "ml": ml})
    return found


@contextmanager
def _warnings(folder: Path) -> Iterator[list[str]]:
    """Collect what the library warns of, without paths."""
    found: list[str] = []

    class Collect(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(clean(record.getMessage(), folder))

    package, handler = logging.getLogger("medseg_nca"), Collect(logging.WARNING)
    package.addHandler(handler)
    try:
        yield found
    finally:
        package.removeHandler(handler)
