"""Add to a trained model what it estimates its own answers by."""

from __future__ import annotations

import logging
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medseg_nca.datasets.redraw import split_file
from medseg_nca.datasets.splits import write_split
from medseg_nca.errors import OutputError
from medseg_nca.inference.bundle import LoadedModel, save_loaded
from medseg_nca.inference.spec import SPEC, WEIGHTS
from medseg_nca.inference.trained import Description, TrainedModel
from medseg_nca.io.atomic import atomic_file, write_text
from medseg_nca.job import Job
from medseg_nca.pipelines.run_folder import MODEL, SETTINGS, SPLIT
from medseg_nca.tasks import TASKS, Task
from medseg_nca.tasks.base import TrustRequest

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrustResult:
    """A model that estimates its answers.

    Attributes:
        folder: folder of its two files.
        spec: its description.
    """

    folder: Path
    spec: Description

    def to_dict(self) -> dict[str, Any]:
        """Return the plain values that ``--json`` prints."""
        section: Any = getattr(self.spec, "trust", None)
        return {
            "model": str(self.folder),
            "cases": section.cases,
            "masks": len(section.pairs.predicted),
            "confidence": section.confidence,
            "corruptions": list(section.corruptions),
        }


def run(request: TrustRequest, out: Path | None = None, job: Job | None = None) -> TrustResult:
    """Fit the estimate of a model on labelled cases, and write it into the model's description.

    Args:
        request: the model and the cases.
        out: folder for a copy of the model, which commands accept as they do a run; None changes
            the run that the model lies in.
        job: gets the progress.

    Raises:
        OutputError: if ``out`` is None and the model lies in no run, or it cannot be written.
        ConfigError: if models of the task do not estimate their answers.
        DataError: if there is no data set, or there are too few cases.
        Interrupted: if the job was cancelled; nothing is then changed.
    """
    folder = request.model.folder
    if out is None and not (folder.parent / SETTINGS).is_file():
        raise OutputError(
            f"{request.model.spec.name}: does not lie in a run, whose files could be changed.",
            hint="Name a folder for a copy of the model with --out.",
        )
    task: Task = TASKS.get(request.model.spec.task)
    spec = task.fit_trust(request, job or Job())
    target = folder if out is None else out / MODEL
    if out is not None:
        _copy(request.model, out)
    write_text(target / SPEC, spec.to_json())
    logger.info("The estimate is part of %s.", target / SPEC)
    return TrustResult(target, spec)


def _copy(model: TrainedModel, out: Path) -> None:
    """Copy the weights, and the split by which evaluation knows what the model has seen."""
    weights = model.folder / WEIGHTS
    if weights.is_file():
        with atomic_file(out / MODEL / WEIGHTS) as path:
            shutil.copyfile(weights, path)
    elif isinstance(model, LoadedModel):  # its download is deleted already
        save_loaded(out / MODEL, model)
    split = split_file(model.folder)
    if split is not None:
        write_split(split, out / SPLIT)
