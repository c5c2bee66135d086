"""The run of a search in the tracking store; the runs of its trials are shown below it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from medseg_nca.config import RunSettings
from medseg_nca.search.queue import TrialQueue
from medseg_nca.search.study import TRACKED
from medseg_nca.tracking.run import RunTracker, start_tracking

logger = logging.getLogger(__name__)


def track_search(settings: RunSettings, out: Path, queue: TrialQueue, digest: str) -> RunTracker:
    """Begin the run of a search, or go on with it.

    A process that joins a search of another machine has no run of its own: it takes the one that
    the study names.

    Args:
        settings: settings that the trials begin from.
        out: folder of the search.
        queue: the study, which keeps the id of the run.
        digest: hash of the data.

    Raises:
        TrackingError: if ``tracking.uri`` is no tracking store, or a package is missing for it.
    """
    known = queue.storage.call(lambda: queue.study.user_attrs).get(TRACKED)
    own = (out / "mlflow.json").exists()
    if known and not own:
        return RunTracker(run_id=str(known))
    named = settings.changed(
        name=f"{settings.name}_search", tracking=settings.tracking.changed(system_metrics=False)
    )
    tracker = start_tracking(named, out, dataset_hash=digest, resume=own)
    if tracker.active:
        tracker.log_tags({"search": queue.study.study_name})
        queue.storage.call(lambda: queue.study.set_user_attr(TRACKED, tracker.run_id))
    return tracker


def log_search(tracker: RunTracker, best: Mapping[str, float], files: list[Path]) -> None:
    """Log the best values of a search and its files."""
    tracker.log_metrics({f"best_{name}": value for name, value in best.items()})
    for path in files:
        tracker.log_artifact(path)
