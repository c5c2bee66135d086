"""How a training begins: what the task is given, and what it returns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from medseg_nca.config import RunSettings

if TYPE_CHECKING:
    import torch

    from medseg_nca.recipe import Decision
    from medseg_nca.training.learner import Learner
    from medseg_nca.training.timing import IterationTime, TimeTable


@dataclass(frozen=True)
class Start:
    """What a task is given to begin a training.

    Attributes:
        data: folder or file of the data set; None if none was given.
        out: the run folder.
        settings: settings of the run, with the task's own options checked.
        device: device of the training.
        first: whether this is the first process of the training, the only one that writes files.
        follows: whether the run folder was filled before, by an earlier part of the run or by
            another process; its files are then read and not made again.
        decisions: what the run decided when it began. The settings contain these decisions, and
            nothing is decided again. None if nothing has been decided yet.
    """

    data: Path | None
    out: Path
    settings: RunSettings
    device: torch.device
    first: bool = True
    follows: bool = False
    decisions: tuple[Decision, ...] | None = None


@dataclass(frozen=True)
class Training:
    """What a task returns: all that the training needs.

    Attributes:
        learner: what is learned.
        settings: settings of the run, with a value for every "auto".
        decisions: the values that were decided, with reasons.
        data: the data set to evaluate the trained model on; None if the task needs no data.
        data_hash: hash of the data set; "" if there is none.
        held_out: the side of the split to evaluate on, such as "test".
        files: files in the run folder that the tracking store gets too.
        time_table: tells, from the time of an iteration, how much fits into the time of the run;
            None if the task has nothing to tell.
    """

    learner: Learner
    settings: RunSettings
    decisions: tuple[Decision, ...] = ()
    data: Path | None = None
    data_hash: str = ""
    held_out: str = "test"
    files: tuple[Path, ...] = ()
    time_table: Callable[[IterationTime], TimeTable] | None = None
