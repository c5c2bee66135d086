"""How a training begins: what it is given, and what its task makes of that."""

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
    """What a training begins from.

    Attributes:
        data: folder or file of the data set; None where none was given.
        out: the run folder.
        settings: of the run, with the task's own options checked.
        device: of the training.
        first: whether this is the first process of the training, which writes.
        follows: whether the run goes on, or another process has begun it: what lies in the run
            folder is then taken, not made.
        decisions: what the run decided when it began; the settings hold it, and nothing is decided
            again. None where nothing was decided yet.
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
    """All that a training needs.

    Attributes:
        learner: what is learned.
        settings: of the run, with every "auto" decided.
        decisions: what was decided, with reasons.
        data: what the trained model is to be evaluated on; None where the task needs no data.
        data_hash: of the data set; "" where there is none.
        held_out: the side of the split to evaluate on.
        files: of the run folder, which the tracking store gets too.
        time_table: says what fits into the run's minutes; None where there is nothing to say.
    """

    learner: Learner
    settings: RunSettings
    decisions: tuple[Decision, ...] = ()
    data: Path | None = None
    data_hash: str = ""
    held_out: str = "test"
    files: tuple[Path, ...] = ()
    time_table: Callable[[IterationTime], TimeTable] | None = None
