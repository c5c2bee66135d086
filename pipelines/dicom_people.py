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

from medseg_nca.io.dicom.deid.collect import identity_words
from medseg_nca.io.dicom.deid.words import IdentityWords
from medseg_nca.io.dicom.files.reader import read_header
from medseg_nca.io.dicom.files.walk import walk
from medseg_nca.io.dicom.problems import DicomError
from medseg_nca.io.dicom.quiet import quiet
from medseg_nca.pipelines.parallel import run_each

if TYPE_CHECKING:
    from pydicom import Dataset

# UIDs of what belongs to one patient. (That of a device or of a kind of dimensions does not.)
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
# What stands in PatientID where there is none; two such patients are not one.
_FILLERS = "anon anonymous anonymized anonymised anonym unknown none removed test"
_NOBODY = frozenset(_FILLERS.split())


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
        self._words: dict[str, IdentityWords] = {}
        self._files: dict[Path, str] = {}

    def add(self, path: Path, person: Person) -> None:
        """Add a file."""
        roots = {self._root(link) for link in person.links or {f"file {path}"}}
        home = min(roots)
        words = person.words
        for root in roots:
            self._parents[root] = home
            words = words | self._words.pop(root, IdentityWords())
        self._words[home] = words
        self._files[path] = home

    def words(self, path: Path) -> IdentityWords:
        """All words of the patient that a file is of; none if the file was not added."""
        link = self._files.get(path)
        return IdentityWords() if link is None else self._words[self._root(link)]

    def words_of(self, paths: Iterable[Path]) -> IdentityWords:
        """The words of the patients of several files."""
        found = IdentityWords()
        for words in {id(words): words for words in map(self.words, paths)}.values():
            found = found | words
        return found

    def everyone(self) -> IdentityWords:
        """The words of all patients: for what cannot be said to be of one of them."""
        found = IdentityWords()
        for words in self._words.values():
            found = found | words
        return found

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
        if patient and patient.casefold() not in _NOBODY:
            links.add(f"patient {patient}")
        return Person(frozenset(links), identity_words(header))


def find_person(path: Path) -> Person | None:
    """What a file says; None if it cannot be read."""
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
    """Frames of reference of atlases, and the like."""
    return uid.startswith("1.2.840.10008.")


def find_people(
    root: Path, workers: int, scheduler: str | None = None, folder: Path | None = None
) -> People:
    """Read all headers of a tree for who they are of.

    Args:
        root: a folder tree, or one file.
        workers: processes.
        scheduler: address of a Dask scheduler that does the work instead.
        folder: for the notes of its workers.
    """
    paths = walk(root).files
    people = People()
    for outcome in run_each(find_person, paths, workers, scheduler=scheduler, folder=folder):
        if outcome.result is not None:
            people.add(paths[outcome.index], outcome.result)
    return people
