"""What an import writes beside the images: the data set's list, its provenance, a report."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medseg_nca import __version__
from medseg_nca.config import LabelTable
from medseg_nca.datasets.adapters.dicom import CHANNELS, MIXED
from medseg_nca.io.atomic import write_json
from medseg_nca.io.dicom.annotations.legend import Legend
from medseg_nca.io.dicom.records import DOUBTS
from medseg_nca.pipelines.dicom_case import LABELS, MapRecord, Record
from medseg_nca.pipelines.dicom_labels import numbers_of
from medseg_nca.pipelines.dicom_state import State

logger = logging.getLogger(__name__)

DATASET, PROVENANCE, REPORT = "dataset.json", "provenance.json", "report.json"


@dataclass(frozen=True)
class Refusal:
    """Something that could not be imported, and why.

    Attributes:
        kind: a fixed word; see docs/dicom.md.
        message: one sentence.
        what: ``series``, ``volume``, ``annotation`` or ``file``.
        series: the hashed UID of the series, None if it is not known.
        modality: of the series, or "".
        files: how many files are concerned.
    """

    kind: str
    message: str
    what: str
    series: str | None = None
    modality: str = ""
    files: int = 1

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return dict(vars(self))


def warn_of_doubts(records: Sequence[Record]) -> None:
    """Tell once of each series what a person should look at: the first of each kind."""
    cases: dict[tuple[str | None, str], str] = {}
    messages: dict[tuple[str | None, str], dict[str, None]] = {}
    for record in records:
        for note in record.notes:
            if note.kind in DOUBTS:
                key = record.series, note.kind
                cases.setdefault(key, record.id)
                messages.setdefault(key, {})[note.message] = None
    for key, case in cases.items():
        first, *others = messages[key]
        more = f" (and {len(others)} more, see {PROVENANCE})" if others else ""
        logger.warning("%s: %s%s", case, first, more)


@dataclass(frozen=True)
class ImportReport:
    """A finished import.

    Attributes:
        out: folder of the data set.
        records: the volumes, sorted by name.
        legend: what the segments of all objects are called, None if there is no label map.
        refused: what could not be imported.
        left_out: how many series, volumes and files were passed over on purpose, by reason.
        cached: how many volumes were there already.
    """

    out: Path
    records: tuple[Record, ...]
    legend: Legend | None
    refused: tuple[Refusal, ...]
    left_out: Mapping[str, int] = field(default_factory=dict)
    cached: int = 0

    @property
    def labels(self) -> LabelTable | None:
        """The label table, None if there is no label map."""
        return self.legend.table if self.legend else None

    @property
    def maps(self) -> list[tuple[Record, MapRecord]]:
        """The cases of the data set."""
        return [(record, one) for record in self.records for one in record.maps]

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "folder": str(self.out),
            "cases": [one.id for _, one in self.maps],
            "labelled": [one.id for _, one in self.maps if one.own],
            "patients": len({record.patient for record in self.records}),
            "labels": None if self.labels is None else self.labels.model_dump(mode="json"),
            "label_notes": [vars(note) for note in self.legend.notes] if self.legend else [],
            "refused": [refusal.to_dict() for refusal in self.refused],
            "left_out": dict(self.left_out),
            "cached": self.cached,
        }


def write_reports(
    report: ImportReport, state: State, settings: Mapping[str, Any], dims: int
) -> None:
    """Write ``dataset.json``, ``provenance.json`` and ``report.json``.

    Raises:
        OutputError: if they cannot be written.
    """
    tree = {
        key: value for key, value in report.to_dict().items() if key not in ("folder", "cached")
    }
    write_json(report.out / REPORT, {"package_version": __version__, **tree})
    write_json(report.out / PROVENANCE, _provenance(report, state, settings))
    if report.records:
        write_json(report.out / DATASET, _dataset(report, dims))


def label_file(one: MapRecord) -> str:
    """Where the final label map of a case lies, relative to the data set."""
    return f"{LABELS}/{Path(one.own or one.image).name}"


def channels_of(records: Sequence[Record]) -> dict[str, str]:
    """The names of the channels, as ``dataset.json`` has them."""
    count = records[0].channels
    if count == 3:
        return {"0": "red", "1": "green", "2": "blue"}
    modalities = {record.modality for record in records}
    name = modalities.pop() if len(modalities) == 1 else MIXED
    return {str(i): CHANNELS.get(name, name) or "unknown" for i in range(count)}


def _dataset(report: ImportReport, dims: int) -> dict[str, Any]:
    labels = report.labels.labels if report.labels else ()
    training = []
    for record, one in report.maps:
        entry = {"image": f"./{one.image}", "patient": record.patient}
        if one.own:
            entry["label"] = f"./{label_file(one)}"
        training.append(entry)
    return {
        "name": report.out.name,
        "description": "Imported from DICOM",
        "tensorImageSize": f"{dims}D",
        "modality": channels_of(report.records),
        "labels": {"0": "background"} | {str(label.values[0]): label.name for label in labels},
        "label_codes": {
            str(label.values[0]): {
                "code": label.code.model_dump(mode="json"),
                "modifier": label.modifier and label.modifier.model_dump(mode="json"),
            }
            for label in labels
            if label.code is not None
        },
        "numTraining": len(training),
        "numTest": 0,
        "training": training,
        "test": [],
    }


def _provenance(report: ImportReport, state: State, settings: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "format_version": 1,
        "package_version": __version__,
        "uids": {
            "method": "HMAC-SHA256 of the original UID, its first 16 bytes as a UID under 2.25",
            "salt": state.salt,
        },
        "settings": dict(settings),
        "cases": [_case(record, report.legend) for record in report.records],
    }


def _case(record: Record, legend: Legend | None) -> dict[str, Any]:
    tree = record.model_dump(mode="json", exclude={"key", "maps"})
    tree["cases"] = [
        {
            "id": one.id,
            "image": one.image,
            "label": label_file(one) if one.own else None,
            "labels": sorted(numbers_of(one.segments, legend).values()) if legend else [],
            "objects": [found.model_dump(mode="json") for found in one.objects],
            "overlaps": [overlap.model_dump(mode="json") for overlap in one.overlaps],
        }
        for one in record.maps
    ]
    return tree
