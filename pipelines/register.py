"""Register the model of a run folder."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from medseg_nca.config.training import TrackingSettings
from medseg_nca.errors import ModelError
from medseg_nca.inference.bundle import load_bundle
from medseg_nca.tracking.evaluation import METRICS, Evaluation, read_evaluation
from medseg_nca.tracking.registry import register
from medseg_nca.tracking.resolve import locate
from medseg_nca.tracking.run import linked_store, read_link
from medseg_nca.tracking.store import URI_VARIABLE
from medseg_nca.tracking.versions import Version

logger = logging.getLogger(__name__)


def run(
    source: Path | str,
    name: str,
    *,
    tracking: TrackingSettings | None = None,
    evaluation: Path | None = None,
    description: str = "",
) -> Version:
    """Register a model as the next version of ``name``.

    Args:
        source: a run folder, or any other name of a model, such as a folder with the two data
            files or ``zoo:NAME``.
        name: of the registered model, made when it is new.
        tracking: the store. Where it names none, nor does ``MLFLOW_TRACKING_URI``, it is the one
            that the run was tracked in, if that is still there.
        evaluation: folder with ``metrics.json``; ``evaluation`` in the run folder if not given.
        description: free text.

    Raises:
        ModelError: if there is no model, or the evaluation given is not of this model.
        TrackingError: if the store refuses.
    """
    folder = Path(source)
    tracking = _store_of(folder, tracking or TrackingSettings())
    loaded = load_bundle(locate(str(source), tracking).folder, "cpu")
    link = read_link(folder)
    version = register(
        loaded,
        name,
        tracking=tracking,
        run_id=link["run_id"] if link else None,
        evaluation=_evaluation_of(folder, evaluation, loaded.spec.weights_sha256),
        description=description,
    )
    logger.info("Registered %s.", version.uri)
    return version


def _store_of(folder: Path, tracking: TrackingSettings) -> TrackingSettings:
    """Prefer the store that has the run, as long as nobody named another."""
    if tracking.uri or os.environ.get(URI_VARIABLE):
        return tracking
    return tracking.model_copy(update={"uri": linked_store(folder)})


def _evaluation_of(folder: Path, given: Path | None, weights_sha256: str) -> Evaluation | None:
    """The evaluation that is given, else the run's own if it is of these weights."""
    if given is not None:
        return read_evaluation(given, weights_sha256)
    own = folder / "evaluation"
    if not (own / METRICS).is_file():
        return None
    try:
        return read_evaluation(own, weights_sha256)
    except ModelError as error:
        logger.warning("Registered without its evaluation: %s", error)
        return None
