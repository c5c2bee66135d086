"""Log a training to the tracking store."""

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
    """Log to the tracking store how the training ended."""
    words = {True: "yes", False: "no", None: "unknown"}
    tracker.log_tags({"learned": words[result.learned], "ended_by": result.reason})
    constant = {f"constant_{key}": value for key, value in asdict(result.constant).items()}
    known = {key: value for key, value in constant.items() if math.isfinite(value)}
    tracker.log_metrics(known, step=result.iterations)


class Tracked:
    """An observer of the training loop that logs its numbers to the tracking store."""

    def __init__(self, tracker: RunTracker) -> None:
        self.tracker = tracker

    def on_log(self, iteration: int, values: Mapping[str, float], progress: float) -> None:
        """Implement :meth:`medseg_nca.training.history.Observer.on_log`."""
        self.tracker.log_metrics(values, step=iteration)


@contextmanager
def tracking(
    settings: RunSettings, out: Path, data_hash: str, resume: bool
) -> Iterator[RunTracker]:
    """Log a run to the store during the block, and log at its end whether it succeeded.

    Args:
        settings: settings of the run.
        out: the run folder.
        data_hash: hash of the data set; "" if there is none.
        resume: whether to go on with the run that the store has.
    """
    tracker = start_tracking(settings, out, dataset_hash=data_hash, resume=resume)
    try:
        yield tracker
    except BaseException as error:
        stopped = isinstance(error, KeyboardInterrupt | Interrupted)
        tracker.finish("KILLED" if stopped else "FAILED")
        raise
    tracker.finish("FINISHED")
