"""The seam of the probes: what one asks of a subject, and what it finds."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from medseg_nca.config.dynamics import DynamicsSettings
from medseg_nca.dynamics.subject import Need, ProbedCase, Scores, Subject, Tree
from medseg_nca.job import Job

# Draws the figures into a folder; returns the caption of each file.
Draw = Callable[[Path], Mapping[Path, str]]


@dataclass(frozen=True)
class ProbeFindings:
    """What a probe found.

    Attributes:
        tree: its part of ``dynamics.json``, plain values.
        rows: the lines of its CSV table.
        columns: headings of the table in the report; the first column names the row.
        table: the rows of that table.
        sentences: what the numbers say, for the report.
        draw: draws the figures.
    """

    tree: Tree
    rows: Sequence[Mapping[str, object]]
    columns: Sequence[str] = ()
    table: Sequence[Sequence[str]] = ()
    sentences: Sequence[str] = ()
    draw: Draw = field(default=lambda folder: {})


class Probe(ABC):
    """One way to look at a model.

    Attributes:
        name: the registered name.
        title: heading of its section in the report.
        about: one or two sentences on what it does, for the report.
        needs: what a subject must offer; a subject that does not is left out with its reason.
        order: place in the report; the smallest comes first.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    about: ClassVar[str]
    needs: ClassVar[Need]
    order: ClassVar[int] = 100

    @abstractmethod
    def run(self, subject: Subject, settings: DynamicsSettings, job: Job) -> ProbeFindings:
        """Look at a subject.

        Args:
            subject: the model and its cases.
            settings: of all probes.
            job: gets the progress, in the phase of the probe's name.

        Raises:
            DataError: if a case cannot be used.
            Interrupted: if the job was cancelled.
        """

    def cases(self, subject: Subject, job: Job) -> Iterator[ProbedCase]:
        """Open the cases one after the other, and report how many are done."""
        total = len(subject.cases)
        for number, name in enumerate(subject.cases):
            job.report(self.name, number, total, unit="cases")
            yield subject.open(name)
        job.report(self.name, total, total, unit="cases")


def shown(value: float | None, how: str = ".3f") -> str:
    """Return a number as the report shows it."""
    return "–" if value is None else format(value, how)


def first_of(scores: Scores) -> float | None:
    """Return the first value of scores, by which the task judges."""
    return next(iter(scores.values()), None)


def flat(scores: Scores, prefix: str = "") -> dict[str, object]:
    """Return scores as columns of a CSV table."""
    return {f"{prefix}{name}": value for name, value in scores.items()}
