"""What a check of a data set found, as JSON and as a table."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from medseg_nca.datasets.base import DataSet
from medseg_nca.io.atomic import write_json, write_text

Level = Literal["error", "warning"]


@dataclass(frozen=True)
class DataFinding:
    """Something that is wrong (error) or looks wrong (warning).

    Attributes:
        level: an error must be mended before training; a warning should be looked at.
        code: the kind of fault, for programs and for counting.
        message: names the file or the case and says what is wrong.
        case: the case's id, None for the data set as a whole.
    """

    level: Level
    code: str
    message: str
    case: str | None = None


@dataclass(frozen=True)
class CaseRow:
    """What one case looks like; what could not be read is None.

    Attributes:
        channels: how many the image has.
        shape: voxels an axis.
        spacing: mm an axis.
        orientation: of the array's axes, "RAS" or the like.
        voxels: how many voxels of the label map have each value.
        image_digest, label_digest: of the values, whatever the file format.
    """

    id: str
    patient: str | None = None
    site: str | None = None
    split: str | None = None
    channels: int | None = None
    shape: tuple[int, ...] | None = None
    spacing: tuple[float, ...] | None = None
    orientation: str | None = None
    low: float | None = None
    high: float | None = None
    mean: float | None = None
    voxels: Mapping[int, int] | None = None
    image_digest: str | None = None
    label_digest: str | None = None


@dataclass(frozen=True)
class CheckReport:
    """The result of a check."""

    dataset: DataSet
    rows: tuple[CaseRow, ...]
    findings: tuple[DataFinding, ...] = field(default=())

    @property
    def errors(self) -> tuple[DataFinding, ...]:
        """What must be mended before anyone trains."""
        return tuple(finding for finding in self.findings if finding.level == "error")

    @property
    def warnings(self) -> tuple[DataFinding, ...]:
        """What should be looked at."""
        return tuple(finding for finding in self.findings if finding.level == "warning")

    def by_kind(self) -> dict[tuple[Level, str], list[DataFinding]]:
        """The findings by level and code, errors first."""
        kinds: dict[tuple[Level, str], list[DataFinding]] = {}
        for finding in (*self.errors, *self.warnings):
            kinds.setdefault((finding.level, finding.code), []).append(finding)
        return kinds

    def label_names(self) -> dict[int, str]:
        """What each number is called, as far as the data set says."""
        labels = self.dataset.labels.labels if self.dataset.labels else ()
        return {label.values[0]: label.name for label in labels if len(label.values) == 1}

    def label_statistics(self) -> dict[int, tuple[int, int]]:
        """For each number of the label maps but 0: cases that have it, voxels in all."""
        found: dict[int, tuple[int, int]] = {}
        for row in self.rows:
            for value, count in (row.voxels or {}).items():
                if value != 0:
                    cases, voxels = found.get(value, (0, 0))
                    found[value] = (cases + 1, voxels + count)
        return dict(sorted(found.items()))

    def to_dict(self) -> dict[str, Any]:
        """The report as plain values."""
        data = self.dataset
        names = self.label_names()
        return {
            "name": data.name,
            "root": str(data.root),
            "format": data.format,
            "dims": data.dims,
            "channels": list(data.channels),
            "modality": data.modality,
            "labels": data.labels.model_dump(mode="json") if data.labels else None,
            "ok": not self.errors,
            "counts": {
                "cases": len(data.cases),
                "labelled": len(data.labelled),
                "errors": len(self.errors),
                "warnings": len(self.warnings),
            },
            "label_values": [
                {"value": value, "name": names.get(value), "cases": cases, "voxels": voxels}
                for value, (cases, voxels) in self.label_statistics().items()
            ],
            "findings": [asdict(finding) for finding in self.findings],
            "cases": [asdict(row) for row in self.rows],
        }

    def write_json(self, path: Path) -> None:
        """Write everything as JSON.

        Raises:
            OutputError: if it cannot be written.
        """
        write_json(path, self.to_dict())

    def write_table(self, path: Path) -> None:
        """Write a CSV file with a line a case.

        Raises:
            OutputError: if it cannot be written.
        """
        text = io.StringIO(newline="")
        lines = [self._line(row) for row in self.rows]
        writer = csv.DictWriter(text, fieldnames=list(lines[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)
        write_text(path, text.getvalue())

    def _line(self, row: CaseRow) -> dict[str, Any]:
        own = [finding for finding in self.findings if finding.case == row.id]
        voxels = row.voxels or {}
        return {
            "id": row.id,
            "patient": row.patient,
            "site": row.site,
            "split": row.split,
            "channels": row.channels,
            "shape": "x".join(map(str, row.shape or ())),
            "spacing_mm": "x".join(f"{step:.4g}" for step in row.spacing or ()),
            "orientation": row.orientation,
            "low": row.low,
            "high": row.high,
            "mean": row.mean,
            "labels": " ".join(f"{value}:{count}" for value, count in voxels.items() if value),
            "errors": " ".join(sorted({f.code for f in own if f.level == "error"})),
            "warnings": " ".join(sorted({f.code for f in own if f.level == "warning"})),
        }
