"""Register the model of a run folder."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from medseg_nca.config.training import TrackingSettings
from medseg_nca.errors import ModelError
from medseg_nca.pipelines.run_folder import RESULT, training_of
from medseg_nca.tracking.evaluation import (
    ScoredResults,
    find_evaluation,
    read_evaluation,
)
from medseg_nca.tracking.registry import register
from medseg_nca.tracking.resolve import locate
from medseg_nca.tracking.run import linked_store, read_link
from medseg_nca.tracking.store import URI_VARIABLE
from medseg_nca.tracking.task_files import load_folder
from medseg_nca.tracking.versions import Version

logger = logging.getLogger(__name__)


def run(
    source: Path | str,
    name: str,
    *,
    tracking: TrackingSettings | None = None,
    evaluation: Path | None = None,
    description: str = "",
    force: bool = False,
) -> Version:
    """Register a model as the next version of ``name``.

    Args:
        source: a run folder, or any other name of a model, such as a folder with the two data
            files or ``zoo:NAME``.
        name: of the registered model, made when it is new.
        tracking: the store. Where it names none, nor does ``MLFLOW_TRACKING_URI``, it is the one
            that the run was tracked in, if that is still there.
        evaluation: folder with ``metrics.json``; if not given, ``evaluation`` in the run folder,
            else where the run was last evaluated.
        description: free text.
        force: register a model also if its training has learned nothing; its version says so.

    Raises:
        ModelError: if there is no model, the evaluation given is not of this model, or its training
            has learned nothing.
        TrackingError: if the store refuses.
    """
    folder = Path(source)
    tracking = _store_of(folder, tracking or TrackingSettings())
    learned = training_of(folder).get("learned")
    if learned is False and not force:
        raise ModelError(
            f"{folder}: the training has learned nothing: the model is no better than a constant "
            f"answer (see {RESULT} there).",
            hint="Train it anew, or register it all the same with --force.",
        )
    found, link = locate(str(source), tracking), read_link(folder)
    try:
        loaded = load_folder(found.folder, "cpu")
        version = register(
            loaded,
            name,
            tracking=tracking,
            run_id=link["run_id"] if link else None,
            evaluation=_evaluation_of(folder, evaluation, loaded.spec.weights_sha256),
            description=description,
            tags={} if learned is None else {"learned": "yes" if learned else "no"},
        )
    finally:
        found.release()
    logger.info("Registered %s.", version.uri)
    return version


def _store_of(folder: Path, tracking: TrackingSettings) -> TrackingSettings:
    """Prefer the store that has the run, as long as nobody named another."""
    if tracking.uri or os.environ.get(URI_VARIABLE):
        return tracking
    return tracking.changed(uri=linked_store(folder))


def _evaluation_of(folder: Path, given: Path | None, weights_sha256: str) -> ScoredResults | None:
    """The evaluation that is given, else the run's own if it is of these weights."""
    if given is not None:
        return read_evaluation(given, weights_sha256)
    return find_evaluation(folder, weights_sha256)
