"""What a de-identification does to one file, in whatever process: read it, clean it, write a copy.

Each copy leaves a record that names what it was made from. A file whose copy and record still fit
is not done again, so the same command goes on where it stopped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medseg_nca.errors import OutputError
from medseg_nca.io.dicom.deid.deidentify import (
    Deidentifier,
    deidentify_dataset,
    patient_key,
    save_dataset,
)
from medseg_nca.io.dicom.deid.words import IdentityWords
from medseg_nca.io.dicom.files.layout import MAX_HEADER
from medseg_nca.io.dicom.files.reader import read_file, read_header
from medseg_nca.io.dicom.problems import DicomError
from medseg_nca.io.dicom.quiet import quiet
from medseg_nca.io.dicom.records import Problem
from medseg_nca.job import Job
from medseg_nca.pipelines.dicom_case import STATE
from medseg_nca.pipelines.dicom_names import Names
from medseg_nca.pipelines.dicom_people import Person, person_of
from medseg_nca.work.case_records import WrittenFile
from medseg_nca.work.finished import FinishedRecord, content_of, finished_or

# To be raised when the same file gives another copy: all are then made again.
COPY_VERSION = 1


class CopyRecord(FinishedRecord):
    """A finished copy; nothing in it names the file that it was made from."""

    file: WrittenFile


@dataclass(frozen=True)
class Copying:
    """One file to copy.

    Attributes:
        path: of the file.
        out: folder of the copies.
        how: how it is treated.
        target: place of the copy; it is known once the header was read.
        words: that the other files of its patient know of him or her.
    """

    path: Path
    out: Path
    how: Deidentifier
    target: Path | None = None
    words: IdentityWords = field(default_factory=IdentityWords)


@dataclass(frozen=True)
class HeaderSeen:
    """Who a file is of and the place of its copy, or why there will be none."""

    person: Person | None = None
    target: Path | None = None
    problem: Problem | None = None


@dataclass(frozen=True)
class Copied:
    """Whether a copy was there already, or why there is none."""

    cached: bool = False
    problem: Problem | None = None


def files_of(work: Copying) -> Sequence[Path]:
    """The file that a worker on another machine must see."""
    return (work.path,)


def look(work: Copying, job: Job) -> HeaderSeen:
    """Read a header."""
    try:
        header = read_header(work.path)
        return HeaderSeen(person_of(header), _target(work, header))
    except DicomError as error:
        return HeaderSeen(problem=error.problem)
    except Exception as error:
        return HeaderSeen(problem=_unforeseen(error))


def copy_file(work: Copying, job: Job) -> Copied:
    """Write a copy, or keep what an earlier run made of the same content in the same way.

    Args:
        work: which file; its target is known.
        job: is not told how far it is: a file takes milliseconds.

    Raises:
        OutputError: if the copy or its record cannot be written.
    """
    assert work.target is not None
    key, target = _key(work), work.target

    def write() -> CopyRecord:
        # What a header leaves out would be missing in the copy: a spectrum, an electrocardiogram.
        dataset = read_file(work.path, bulk=MAX_HEADER)
        save_dataset(deidentify_dataset(dataset, work.how, work.words), target)
        return CopyRecord(key=key, file=WrittenFile.of(target, work.out))

    try:
        _, cached = finished_or(
            copy_record(work.out, target),
            CopyRecord,
            key,
            lambda known: known.file.is_whole(work.out),
            write,
        )
        return Copied(cached)
    except DicomError as error:
        return Copied(problem=error.problem)
    except OutputError:
        raise
    except Exception as error:
        return Copied(problem=_unforeseen(error))


def copy_record(out: Path, target: Path) -> Path:
    """Where the record of a copy lies."""
    return out / STATE / "copies" / target.relative_to(out).with_suffix(".json")


def _key(work: Copying) -> str:
    """Tells whether a record was made from this content in this way."""
    how = work.how
    return Names(how.pseudonyms, hidden=True).key(
        COPY_VERSION,
        content_of(work.path),
        [how.dates, how.keep_labels, how.allow_burned_in],
        work.words.listed(),
    )


def _unforeseen(error: Exception) -> Problem:
    """Its text is left out, because it may quote the header, and would be logged."""
    return Problem("unexpected", f"unexpected {type(error).__name__}")


def _target(work: Copying, header: Any) -> Path:
    """The place of the copy; every part of it is a pseudonym."""
    secret = work.how.pseudonyms
    with quiet():
        study, series, instance, patient = (
            str(header.get(keyword) or "").strip()
            for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "PatientID")
        )
    if not instance:
        raise DicomError(Problem("no-instance-uid", f"{work.path}: has no SOPInstanceUID."))
    return (
        work.out
        / secret.patient(patient_key(patient, study))
        / secret.name("study", study)
        / secret.name("series", series)
        / f"{secret.uid(instance)}.dcm"
    )
