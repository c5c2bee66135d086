"""The words that name a patient, collected from a file so that they are found where none belong.

A table of attributes cannot know that someone typed a name into a segment's label. What identifies
the patient in the attributes made for it is therefore searched for in everything that is kept.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydicom import DataElement, Dataset

# Shorter texts occur by chance: "Li" is a name and begins "Liver".
_SHORTEST_PART, _SHORTEST_WHOLE = 3, 4
_IDEOGRAPHS = "\u2e80"  # and kana and Hangul: what comes after it in Unicode
_WHOLE_KEYWORDS = """
    PatientID OtherPatientIDs PatientBirthDate AccessionNumber StudyID PatientAddress
    PatientTelephoneNumbers PatientTelecomInformation MilitaryRank MedicalRecordLocator
    PatientMotherBirthName InsurancePlanIdentification IssuerOfPatientID AdmissionID
    ServiceEpisodeID InstitutionName InstitutionAddress InstitutionalDepartmentName StationName
    RequestedProcedureID ScheduledProcedureStepID PerformedProcedureStepID
    PlacerOrderNumberImagingServiceRequest FillerOrderNumberImagingServiceRequest
    DeviceSerialNumber ReferringPhysicianAddress ReferringPhysicianTelephoneNumbers
    ResponsibleOrganization PersonAddress PersonTelephoneNumbers RequestingService
"""
_WHOLE = frozenset(_WHOLE_KEYWORDS.split())
# Fillers that many systems write where nothing is known.
_FILLERS = frozenset({"anon", "anonymous", "anonymized", "unknown", "none", "removed", "0000"})
# Five dots and more: no version number, a UID.
_UID = re.compile(r"(?<![\d.])[0-2](?:\.\d+){5,}(?![\d.])")


@dataclass(frozen=True)
class IdentityWords:
    """Parts of names (matched as words) and identifiers (matched anywhere), lower case.

    An identifier of digits is not found within a longer number, which may be a code.
    """

    parts: frozenset[str]
    wholes: frozenset[str]

    def found_in(self, text: str) -> bool:
        """Whether a text names the patient or someone of the staff."""
        text = text.lower()
        if any(_holds(text, whole) for whole in self.wholes):
            return True
        return any(word in self.parts for word in re.findall(r"[^\W_]+", text)) or any(
            len(part) > _SHORTEST_WHOLE and part in text for part in self.parts
        )

    def found_in_bytes(self, content: bytes) -> bool:
        """Whether a binary value holds such a word, in any 8-bit coding or UTF-16."""
        plain = content.lower()
        for word in (*self.wholes, *(p for p in self.parts if len(p) > _SHORTEST_WHOLE)):
            for coding in ("utf-8", "latin-1", "utf-16-le"):
                if word.encode(coding, "ignore").lower() in plain:
                    return True
        return False


def identity_words(dataset: Dataset) -> IdentityWords:
    """Collect the words of all names and identifiers of a file, at any depth."""
    parts: set[str] = set()
    wholes: set[str] = set()
    for element in _elements(dataset):
        if element.VR == "PN":
            words = {part for value in _values(element) for part in _words(value)}
            wholes |= {word for word in words if _is_ideographic(word)}
            parts |= words
        elif element.keyword in _WHOLE:
            wholes |= {form for value in _values(element) for form in _forms(value)}
    return IdentityWords(
        frozenset(part for part in parts if len(part) >= _SHORTEST_PART) - _FILLERS,
        frozenset(w for w in wholes if len(w) >= _SHORTEST_WHOLE or _is_ideographic(w)) - _FILLERS,
    )


def uids_in(text: str) -> Iterator[re.Match[str]]:
    """Yield everything in a text that looks like a UID."""
    return _UID.finditer(text)


def is_several(value: Any) -> bool:
    """Whether the value of an element is a list of values."""
    return isinstance(value, list | tuple) or type(value).__name__ == "MultiValue"


def _holds(text: str, whole: str) -> bool:
    if not whole.isdigit():
        return whole in text
    return re.search(rf"(?<!\d){whole}(?!\d)", text) is not None


def _elements(dataset: Dataset) -> Iterator[DataElement]:
    for tag in list(dataset.keys()):
        try:
            element = dataset[tag]
        except Exception:  # a value that cannot be decoded is removed later
            continue
        if element.tag.is_private:
            continue
        yield element
        if element.VR == "SQ":
            for item in element.value:
                yield from _elements(item)


def _values(element: Any) -> Iterable[str]:
    value = element.value
    if value is None:
        return []
    return [str(item) for item in (value if is_several(value) else [value])]


def _is_ideographic(word: str) -> bool:
    """Whether two characters are a whole name, and words stand without blanks between them."""
    return len(word) > 1 and all(character >= _IDEOGRAPHS for character in word)


def _words(name: str) -> Iterator[str]:
    return (word.lower() for word in re.findall(r"[^\W_]+", name))


def _forms(value: str) -> Iterator[str]:
    """An identifier as it stands; a date also as people write it."""
    value = value.strip().lower()
    yield value
    if re.fullmatch(r"\d{8}", value):
        year, month, day = value[:4], value[4:6], value[6:]
        for mark in "-./":
            yield mark.join((year, month, day))
            yield mark.join((day, month, year))
