"""What the tracking store is told of a training."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from medseg_nca.config import RunSettings
from medseg_nca.errors import Interrupted
from medseg_nca.tracking.run import RunTracker, start_tracking
from medseg_nca.training.state import TrainingResult


def tell(result: TrainingResult, tracker: RunTracker) -> None:
    """Let the tracking store say what became of the training."""
    words = {True: "yes", False: "no", None: "unknown"}
    tracker.log_tags({"learned": words[result.learned], "ended_by": result.reason})
    constant = {f"constant_{key}": value for key, value in asdict(result.constant).items()}
    known = {key: value for key, value in constant.items() if math.isfinite(value)}
    tracker.log_metrics(known, step=result.iterations)


class Tracked:
    """Sends what the loop reports to the tracking store."""

    def __init__(self, tracker: RunTracker) -> None:
        self.tracker = tracker

    def on_log(self, iteration: int, values: Mapping[str, float], progress: float) -> None:
        """See :class:`medseg_nca.training.history.Observer`."""
        self.tracker.log_metrics(values, step=iteration)


@contextmanager
def tracking(
    settings: RunSettings, out: Path, data_hash: str, resume: bool
) -> Iterator[RunTracker]:
    """Follow a run in the store, and say there how it ended.

    Args:
        settings: of the run.
        out: the run folder.
        data_hash: of the data set; "" where there is none.
        resume: go on with the tracked run.
    """
    tracker = start_tracking(settings, out, dataset_hash=data_hash, resume=resume)
    try:
        yield tracker
    except BaseException as error:
        stopped = isinstance(error, KeyboardInterrupt | Interrupted)
        tracker.finish("KILLED" if stopped else "FAILED")
        raise
    tracker.finish("FINISHED")
