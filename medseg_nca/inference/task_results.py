"""What the commands return of any task: predictions, evaluations, tables and comparisons."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from medseg_nca.errors import PartialFailure

Tree = dict[str, Any]


class Predicted(Protocol):
    """What became of one input."""

    @property
    def line(self) -> str:
        """The line shown in the terminal: the files that were written, and remarks on the case."""

    def to_dict(self) -> Tree:
        """Return the plain values that ``--json`` prints."""


@dataclass(frozen=True)
class Evaluation:
    """A finished evaluation.

    Attributes:
        out: folder of the results: ``metrics.json``, ``metrics.csv``, ``report.html``, figures.
        tree: what ``metrics.json`` holds. Every task fills "task", "model" (with "name" and
            "weights_sha256"), "data" (with "name" and "hash"), "split" (with "name"), "cases"
            (each with "id"), "failed" (a list, each with "id" and "error"), "notes", and "score"
            (with "name", "value" and "better").
        failed: what went wrong, by the id of each failed case; the results hold the other cases.
        tables: further tables that the terminal shows below that of :meth:`Task.table`.
        reports: names of the reports in ``out``.
    """

    out: Path
    tree: Tree
    failed: Mapping[str, str] = field(default_factory=dict)
    tables: tuple[ResultTable, ...] = ()
    reports: tuple[str, ...] = ("report.html",)

    def raise_for_failures(self) -> None:
        """Raise an error if a case failed; for a caller that has already used the results.

        Raises:
            PartialFailure: if a case failed.
        """
        if self.failed:
            total = len(self.failed) + len(self.tree["cases"])
            raise PartialFailure(
                f"{len(self.failed)} of {total} cases failed; {self.out / 'metrics.json'} says "
                "why.",
                hint="Mend what it names, or leave these cases out, and evaluate again.",
                failures=self.failed,
            )


@dataclass(frozen=True)
class ResultTable:
    """The results as the terminal shows them. ``summary`` is a sentence below the rows."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    summary: str = ""


@dataclass(frozen=True)
class Agreement:
    """How a model's answer compares with the answer that is stored beside the model.

    Attributes:
        identical: whether both answers are equal, bit by bit.
        passed: whether they differ by no more than the task allows.
        detail: the comparison in words.
    """

    identical: bool
    passed: bool
    detail: str
