"""Series that another machine keeps: what is known of them, how much is taken, what came of it.

DICOMweb and DIMSE share this, so that a folder of fetched files is checked by one function.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple, Protocol, TypeGuard

from medseg_nca.io.dicom.files.attributes import Attributes
from medseg_nca.io.dicom.files.reader import scanned
from medseg_nca.io.dicom.problems import DicomError
from medseg_nca.io.dicom.query import SeriesQuery
from medseg_nca.io.dicom.scan import series_uid_of_damaged

# Modalities of objects that hold no pictures, or none of the patient (PS3.3 C.7.3.1.1.1).
NO_IMAGES = frozenset((
    "ANN", "ASMT", "AU", "DOC", "ECG", "EEG", "EMG", "EOG", "EPS", "FID", "HD", "KER", "KO", "LEN",
    "M3D", "OAM", "OSS", "PLAN", "POS", "PR", "REG", "RESP", "RTDOSE", "RTINTENT", "RTPLAN",
    "RTRAD", "RTRECORD", "RTSEGANN", "RTSTRUCT", "RWV", "SEG", "SMR", "SR", "SRF", "STAIN",
    "TEXTUREMAP", "VA",
))  # fmt: skip
_UID = re.compile(r"[0-9]+(\.[0-9]+)+")
_NO_DICOM = frozenset(("not-dicom", "empty", "dicomdir"))

# Told how many instances of a series have arrived; what it raises ends the fetch.
Arrived = Callable[[int], None]


def may_be_uid(value: object) -> TypeGuard[str]:
    """Whether a value can be a UID: 64 digits and dots at most.

    Real archives hold some with leading zeros, which PS3.5 9.1 does not allow.
    """
    return isinstance(value, str) and len(value) <= 64 and _UID.fullmatch(value) is not None


@dataclass(frozen=True)
class RemoteSeries:
    """A series that an archive says it has.

    Attributes:
        uid: SeriesInstanceUID.
        study_uid: StudyInstanceUID.
        modality: "" where it does not say.
        instances: how many; None where it does not say.
        tags: the attributes that it was asked for, as texts by keyword; they may name a patient.
    """

    uid: str
    study_uid: str
    modality: str = ""
    instances: int | None = None
    tags: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)

    @property
    def may_be_image(self) -> bool:
        """Whether it can hold pictures of a patient."""
        return self.modality not in NO_IMAGES


@dataclass(frozen=True)
class FetchLimits:
    """What is taken of a series.

    Attributes:
        bytes: of all its files.
        instances: of it.
        seconds: until all is there.
    """

    bytes: int = 4_000_000_000
    instances: int = 5000
    seconds: float = 600.0


class Archive(Protocol):
    """What series are searched in and fetched from."""

    @property
    def name(self) -> str:
        """Its address, for messages."""

    def search(self, query: SeriesQuery) -> tuple[RemoteSeries, ...]:
        """The series that an archive finds for a query."""

    def fetch(
        self, series: RemoteSeries, folder: Path, limits: FetchLimits, arrived: Arrived
    ) -> tuple[Path, ...]:
        """Bring all instances of a series into an empty folder."""

    def close(self) -> None:
        """End all connections."""


class Fault(NamedTuple):
    """What is wrong with the files that came for a series.

    Attributes:
        trouble: a fixed word for programs.
        text: what the archive did, as the end of a sentence.
    """

    trouble: Literal["missing", "wrong", "incomplete"]
    text: str


class ReceivedFile(NamedTuple):
    """What a file says of itself.

    Attributes:
        path: the file.
        series_uid: SeriesInstanceUID; "" where it has none, or is no DICOM.
        sop_uid: SOPInstanceUID; "" where it has none, or is damaged.
        number: InstanceNumber; None where it has none.
    """

    path: Path
    series_uid: str
    sop_uid: str = ""
    number: int | None = None


def look_at(path: Path) -> ReceivedFile:
    """What a file says of itself; a damaged one is known by its first bytes."""
    try:
        with scanned(path) as header:
            attributes = Attributes(header)
            number = attributes.number("InstanceNumber")
            return ReceivedFile(
                path, attributes.text("SeriesInstanceUID"), attributes.text("SOPInstanceUID"),
                None if number is None else int(number),
            )  # fmt: skip
    except DicomError as error:
        strange = error.problem.kind in _NO_DICOM
        return ReceivedFile(path, "" if strange else series_uid_of_damaged(path))


def fault_of(series: RemoteSeries, files: Iterable[ReceivedFile]) -> Fault | None:
    """What is wrong with the files that came for a series; None if they are all of it."""
    files = tuple(files)
    if not files:
        return Fault("missing", "has no instance of this series")
    if {file.series_uid for file in files} != {series.uid}:
        return Fault("wrong", "sends instances of another series")
    # Slices that are missing at an end of the series would be seen nowhere else.
    count = len({file.sop_uid or file.path.name for file in files})
    if count < (series.instances or 0):
        return Fault(
            "incomplete", f"sends {count} instances of a series that has {series.instances}"
        )
    return None
