"""What is probed: a trained model with its cases, as its task offers them.

A task implements :class:`Subject` and :class:`ProbedCase`, and the probes know nothing else of it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from medseg_nca.inference.trained import TrainedModel
from medseg_nca.io.volume import Volume
from medseg_nca.job import Job
from medseg_nca.nca.start import RollOutStart

Array = NDArray[Any]
Tree = dict[str, Any]
# Values by name; the first is the one by which the task judges. None where there is no value.
Scores = dict[str, float | None]
# What a probe needs of a subject.
Need = Literal["steps", "states", "images", "masks"]


@dataclass(frozen=True)
class Measure:
    """A number by which answers are judged.

    Attributes:
        name: as people write it, with its unit.
        better: the direction in which it is better.
    """

    name: str
    better: Literal["higher", "lower"] = "higher"


@dataclass(frozen=True)
class SubjectRequest:
    """Which model is probed on which cases.

    Attributes:
        model: a trained model.
        data: the data set; None for a task that needs none.
        split: "test", "val", "train" or "all", of the run that trained the model.
        cases: how many cases at most, the first ones in the order of the data set; None takes all.
        overrides: changes to the settings that ``evaluate`` takes, each as ``--set`` takes it.
    """

    model: TrainedModel
    data: Path | None
    split: str = "test"
    cases: int | None = None
    overrides: tuple[str, ...] = ()


class ProbedCase(ABC):
    """One case that was read: what the model answers, and how good an answer is.

    An answer is an array. Where :attr:`image` is not None, its last axes are those of the image.

    Attributes:
        id: name of the case.
        image: the image; None where a case has no single image.
        smooth: whether answers are real values, which may be interpolated; else they are labels.
        notes: what the reader of the results should know of the case.
    """

    id: str
    image: Volume | None = None
    smooth: bool = False
    notes: tuple[str, ...] = ()

    @abstractmethod
    def answer(
        self,
        *,
        image: Volume | None = None,
        factor: float | Sequence[float] = 1.0,
        seed: int | None = None,
        job: Job | None = None,
    ) -> Array:
        """Return the model's answer.

        Args:
            image: takes the place of the case's own image.
            factor: how many times the trained steps are taken, for all levels or for each level.
            seed: seed of fire masks that are drawn; None runs the model as it is used.
            job: asked whether to go on.

        Raises:
            NonFiniteStateError: if a state becomes NaN or infinite.
        """

    @abstractmethod
    def score(self, answer: Array, window: tuple[slice, ...] | None = None) -> Scores:
        """Compare an answer with the truth.

        Args:
            answer: an answer, cut to the window.
            window: the part of the image that is compared; None compares all of it.
        """

    @abstractmethod
    def agreement(self, answer: Array, other: Array) -> Scores:
        """Compare an answer with another answer of the model."""

    def for_states(self) -> ProbedCase:
        """Return the case whose states fit into memory as a whole: this one, or a part of it."""
        return self

    def start(self, level: int, seed: int | None = None) -> RollOutStart:
        """Return what the roll-out of a level begins with, after the levels before it have run.

        Args:
            level: index of the level, coarse to fine.
            seed: as in :meth:`answer`.
        """
        raise NotImplementedError

    def read(self, state: Tensor) -> Array:
        """Return the answer of a state ``(1, C, *cells)`` of the last level."""
        raise NotImplementedError

    def object_cells(self, state: Tensor) -> Tensor | None:
        """Return where a state of the last level says that something is, bool ``(*cells)``.

        Damage is put there. None where the answer has no such place.
        """
        return None

    def wounds(self) -> Mapping[str, Tensor]:
        """Return the task's own wounds: which cells stay, bool ``(*cells)``, by name."""
        return {}


class Subject(ABC):
    """A model with the cases on which it is probed.

    Attributes:
        score: by which the task judges an answer against the truth.
        agreement: by which two answers are compared.
        steps: the trained steps of each level, coarse to fine; () for a model without steps.
        cases: names of the cases.
        facts: the model, the data and the settings, for the results.
        missing: for each need that the subject cannot serve, the reason in one sentence.
    """

    score: ClassVar[Measure]
    agreement: ClassVar[Measure]
    steps: tuple[int, ...]
    cases: tuple[str, ...]
    facts: Tree
    missing: Mapping[Need, str]

    @abstractmethod
    def open(self, case: str) -> ProbedCase:
        """Read a case.

        Raises:
            DataError: if it cannot be used.
        """


@dataclass(frozen=True)
class Averages:
    """Means over cases, by name, without the cases that have no value."""

    rows: list[Scores] = field(default_factory=list)

    def add(self, scores: Scores) -> None:
        """Take the scores of one more case."""
        self.rows.append(scores)

    def mean(self) -> Scores:
        """Return the mean of every name; None if no case has a value."""
        names = dict.fromkeys(name for row in self.rows for name in row)
        return {name: mean_of([row.get(name) for row in self.rows]) for name in names}


def mean_of(values: Sequence[float | None]) -> float | None:
    """Return the mean of the values that are there; None if there are none."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
