"""A dry run of the rules: which takes which series of a folder, and why not the ones before it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medseg_nca.errors import DataError
from medseg_nca.io.dicom.records import Series
from medseg_nca.io.dicom.scan import scan
from medseg_nca.serving.node.routes import Choice, Route, choose


@dataclass(frozen=True)
class Explained:
    """What the rules say to a series.

    Attributes:
        series: as it was found.
        choice: of the rules.
    """

    series: Series
    choice: Choice

    def to_tree(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        tags, route = self.series.tags, self.choice.route
        verdicts = self.choice.verdicts
        return {
            "series_uid": self.series.uid,
            "modality": tags.get("Modality", ""),
            "description": tags.get("SeriesDescription", ""),
            "files": len(self.series.files),
            "rule": None if route is None else len(verdicts),
            "models": [] if route is None else list(route.models),
            "refused": self.choice.refused,
            "rules": [
                {"rule": verdict.route.text, "fits": verdict.fits, "reasons": list(verdict.reasons)}
                for verdict in verdicts
            ],
            "problems": [problem.message for problem in self.series.refused],
        }


def explain(path: Path, routes: Sequence[Route]) -> list[Explained]:
    """Ask the rules about every series of a file or a folder.

    Raises:
        DataError: if there is no series.
    """
    found = scan(path)
    if not found.series:
        raise DataError(f"{path}: holds no DICOM series.", hint="Name a DICOM file, or a folder.")
    return [Explained(series, choose(routes, series)) for series in found.series]
