"""Whose files are whose: the words that name a patient, from all files of a tree that are theirs.

The label of a segmentation may name a patient whom its own header calls ANON. So before anything
is written every header is read, files that share a patient, a study, a series, a frame of reference
or an instance are put together, and the words of all of them are searched for in each.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from medseg_nca.io.dicom.deid.collect import identity_words, is_nobody
from medseg_nca.io.dicom.deid.words import IdentityWords, united
from medseg_nca.io.dicom.files.reader import read_header
from medseg_nca.io.dicom.files.walk import walk
from medseg_nca.io.dicom.problems import DicomError
from medseg_nca.io.dicom.quiet import quiet
from medseg_nca.job import Job
from medseg_nca.work.scheduler import counted, run_each

if TYPE_CHECKING:
    from pydicom import Dataset

# UIDs of things that belong to one patient, unlike those of a device or of a kind of dimensions.
_LINKS = frozenset(
    {
        0x00080018,  # SOPInstanceUID
        0x00081155,  # ReferencedSOPInstanceUID
        0x0020000D,  # StudyInstanceUID
        0x0020000E,  # SeriesInstanceUID
        0x00200052,  # FrameOfReferenceUID
        0x30060024,  # ReferencedFrameOfReferenceUID
    }
)


@dataclass(frozen=True)
class Person:
    """What one file says of who it is of.

    Attributes:
        links: what it shares with other files of the patient.
        words: that identify someone.
    """

    links: frozenset[str]
    words: IdentityWords


class People:
    """Files put together by patient, and the words of each patient."""

    def __init__(self) -> None:
        self._parents: dict[str, str] = {}
        self._words: dict[str, set[IdentityWords]] = {}
        self._united: dict[str, IdentityWords] = {}
        self._files: dict[Path, str] = {}

    def add(self, path: Path, person: Person) -> None:
        """Add a file."""
        roots = {self._root(link) for link in person.links or {f"file {path}"}}
        home = max(roots, key=lambda root: (len(self._words.get(root, ())), root))
        words = self._words.setdefault(home, set())
        words.add(person.words)
        for root in roots - {home}:
            self._parents[root] = home
            words |= self._words.pop(root, set())
        self._united.clear()
        self._files[path] = home

    def words(self, path: Path) -> IdentityWords:
        """All words of the patient that a file is of; none if the file was not added."""
        link = self._files.get(path)
        return IdentityWords() if link is None else self._words_at(self._root(link))

    def words_of(self, paths: Iterable[Path]) -> IdentityWords:
        """The words of the patients of several files."""
        roots = {self._root(self._files[path]) for path in paths if path in self._files}
        return united(map(self._words_at, sorted(roots)))

    def everyone(self) -> IdentityWords:
        """The words of all patients: for what cannot be said to be of one of them."""
        return united(map(self._words_at, self._words))

    def _words_at(self, root: str) -> IdentityWords:
        if root not in self._united:
            self._united[root] = united(self._words[root])
        return self._united[root]

    def _root(self, link: str) -> str:
        root = link
        while (parent := self._parents.setdefault(root, root)) != root:
            root = parent
        while link != root:
            self._parents[link], link = root, self._parents[link]
        return root


def person_of(header: Dataset) -> Person:
    """What a header says."""
    with quiet():
        links = set(_uids(header))
        patient = str(header.get("PatientID") or "").strip()
        if not is_nobody(patient):
            links.add(f"patient {patient}")
        return Person(frozenset(links), identity_words(header))


def find_person(path: Path, job: Job) -> Person | None:
    """What a file says; None if it cannot be read. A file takes no time worth telling the job."""
    try:
        return person_of(read_header(path))
    except DicomError:
        return None
    except Exception:  # its text may quote the header, and would be logged
        return None


def _uids(dataset: Dataset) -> Iterator[str]:
    for tag in list(dataset.keys()):
        links = int(tag) in _LINKS
        if not links and dataset.get_item(tag).VR not in {"SQ", "UN", None}:
            continue
        try:
            element = dataset[tag]
        except Exception:  # a value that cannot be decoded is removed later
            continue
        if links:
            uid = str(element.value or "").strip(" \0")
            if uid and not _is_of_the_standard(uid):
                yield uid
        elif element.VR == "SQ":
            for item in element.value or ():
                yield from _uids(item)


def _is_of_the_standard(uid: str) -> bool:
    """Whether the standard made a UID, such as the frame of reference of an atlas."""
    return uid.startswith("1.2.840.10008.")


def find_people(
    root: Path,
    workers: int,
    scheduler: str | None = None,
    folder: Path | None = None,
    job: Job | None = None,
) -> People:
    """Read all headers of a tree for who they are of.

    Args:
        root: a folder tree, or one file.
        workers: processes.
        scheduler: address of a Dask scheduler that does the work instead.
        folder: for the notes of its workers.
        job: told how many headers are read, under the phase "headers".

    Raises:
        Interrupted: if the job was cancelled.
    """
    job = job or Job()
    paths = walk(root).files
    people = People()
    running = run_each(find_person, paths, workers, scheduler=scheduler, folder=folder, job=job)
    for outcome in counted(running, job, "headers", len(paths), unit="files"):
        if outcome.result is not None:
            people.add(paths[outcome.index], outcome.result)
    return people
