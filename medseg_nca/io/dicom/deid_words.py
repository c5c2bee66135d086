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
_FILLERS = frozenset({"anonymous", "anonymized", "unknown", "none", "removed", "null", "0000"})
# Five dots and more: no version number, a UID.
_UID = re.compile(r"(?<![\d.])[0-2](?:\.\d+){5,}(?![\d.])")


@dataclass(frozen=True)
class IdentityWords:
    """Parts of names (matched as whole words) and identifiers (matched anywhere), lower case."""

    parts: frozenset[str]
    wholes: frozenset[str]

    def found_in(self, text: str) -> bool:
        """Whether a text names the patient or someone of the staff."""
        text = text.lower()
        if any(whole in text for whole in self.wholes):
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
            parts |= {part for value in _values(element) for part in _words(value)}
        elif element.keyword in _WHOLE:
            wholes |= {form for value in _values(element) for form in _forms(value)}
    return IdentityWords(
        frozenset(part for part in parts if len(part) >= _SHORTEST_PART) - _FILLERS,
        frozenset(whole for whole in wholes if len(whole) >= _SHORTEST_WHOLE) - _FILLERS,
    )


def uids_in(text: str) -> Iterator[re.Match[str]]:
    """Yield everything in a text that looks like a UID."""
    return _UID.finditer(text)


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
    several = isinstance(value, list | tuple) or type(value).__name__ == "MultiValue"
    return [str(item) for item in (value if several else [value])]


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
