"""Collect what identifies a patient and the staff from the elements of a header."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields
from itertools import permutations
from typing import TYPE_CHECKING, Any

from medseg_nca.io.dicom.deid.dates import days_of
from medseg_nca.io.dicom.deid.spelling import (
    decodings,
    is_ideographic,
    plain,
    readable,
    readings,
    words_of,
)
from medseg_nca.io.dicom.deid.words import IdentityWords, is_several

if TYPE_CHECKING:
    from pydicom import Dataset

# Replaces bytes that are no text in the character set of the file.
_UNREADABLE = "\ufffd"
_SHORTEST_WORD = 4
# Shorter identifiers and numbers would be found in every text. The patient's own identifier is
# searched for even if it is one character shorter.
_SHORTEST_IDENTIFIER = 4
_SHORTEST_PATIENT_IDENTIFIER = 3
_WHOLE_KEYWORDS = """
    PatientID OtherPatientIDs AccessionNumber StudyID PatientAddress
    PatientTelephoneNumbers PatientTelecomInformation MilitaryRank MedicalRecordLocator
    InsurancePlanIdentification IssuerOfPatientID AdmissionID
    ServiceEpisodeID InstitutionName InstitutionAddress InstitutionalDepartmentName StationName
    RequestedProcedureID ScheduledProcedureStepID PerformedProcedureStepID
    PlacerOrderNumberImagingServiceRequest FillerOrderNumberImagingServiceRequest
    DeviceSerialNumber ReferringPhysicianAddress ReferringPhysicianTelephoneNumbers
    ResponsibleOrganization PersonAddress PersonTelephoneNumbers RequestingService
    ClinicalTrialSubjectID ClinicalTrialSubjectReadingID ClinicalTrialSiteName
    ScheduledStationName PerformedStationName DetectorID GantryID PlateID CassetteID
    PatientInsurancePlanCodeSequence
"""
_WHOLE = frozenset(_WHOLE_KEYWORDS.split())
_PATIENT_IDS = frozenset({"PatientID", "OtherPatientIDs"})
_PATIENT_NAMES = frozenset(
    {"PatientName", "OtherPatientNames", "PatientBirthName", "PatientMotherBirthName",
     "ResponsiblePerson"}
)  # fmt: skip
# Codes whose meaning is the name of a person or a place.
_PERSONS = frozenset({"PersonIdentificationCodeSequence"})
_PLACES = frozenset({"InstitutionCodeSequence", "InstitutionalDepartmentTypeCodeSequence"})
# Words that many systems write where nothing is known, and words beside a name that are no name.
_FILLER_WORDS = """
    anon anonym anonymous anonymized anonymised anonymize unknown none removed null empty
    patient nobody noname unbekannt ct mr mri pet
"""
_FILLERS = frozenset(_FILLER_WORDS.split())
# What systems write in PatientID where it is not known; two such patients are not the same person.
_NOBODY_WORDS = "anon anonymous anonymized anonymised anonym unknown none removed test"
_NOBODY = frozenset({"", *_NOBODY_WORDS.split()})
_TITLE_WORDS = """
    dr prof med mr mrs ms miss sir phd md mdphd jr sr ii iii iv msc bsc dipl ing herr frau
"""
_TITLES = frozenset(_TITLE_WORDS.split())
_PARTICLE_WORDS = """
    de da do dos das del della di du des la le los las el al van von der den dem ter ten zu
    zum zur und y e et af av bin ibn abu st saint op mc mac
"""
_PARTICLES = frozenset(_PARTICLE_WORDS.split())


def is_nobody(patient_id: str) -> bool:
    """Whether a PatientID names no patient."""
    return patient_id.strip(" \0").casefold() in _NOBODY


def identity_words(dataset: Dataset) -> IdentityWords:
    """Collect the words of all names and identifiers of a file, and its dates, at any depth."""
    collected = _Collected()
    collected.walk(dataset)
    return collected.words()


class _Collected:
    """Sorts what stands in the elements of a header."""

    def __init__(self) -> None:
        self.sets: dict[str, set[Any]] = {f.name: set() for f in fields(IdentityWords)}

    def words(self) -> IdentityWords:
        return IdentityWords(**{name: frozenset(found) for name, found in self.sets.items()})

    def walk(self, dataset: Dataset, within: str = "") -> None:
        for tag in list(dataset.keys()):
            vr = _vr(dataset, tag)
            if vr not in {"PN", "DA", "DT", "SQ", "UT", "LO", "SH", "ST", "LT", "CS", "UC"}:
                continue
            raw = _raw(dataset, tag)
            try:
                element = dataset[tag]
                keyword, values = element.keyword, list(_values(element))
                if any(_UNREADABLE in value for value in values):  # of another character set
                    values += [one for text in readings(raw) for one in text.split("\\")]
            except Exception:  # a value that cannot be decoded is removed later
                continue
            if element.VR == "SQ":
                for item in element.value or ():
                    self.walk(item, keyword)
            elif element.VR in {"DA", "DT"}:
                self._days(keyword, values)
            elif element.VR == "PN":
                self._each(self._name, keyword, values)
            elif keyword in _WHOLE:
                self._each(self._identifier, keyword, values)
            elif keyword == "CodeMeaning" and within in _PERSONS:
                self._each(self._name, keyword, values)
            elif keyword == "CodeMeaning" and within in _PLACES:
                self._each(self._identifier, keyword, values)

    def _each(self, take: Callable[[str, str], None], keyword: str, values: Iterable[str]) -> None:
        for value in values:
            for reading in decodings(value):
                take(keyword, reading)

    def _days(self, keyword: str, values: Iterable[str]) -> None:
        found = {day for value in values for day in days_of(value)}
        self.sets["days"] |= found
        if "Birth" in keyword:
            self.sets["births"] |= found

    def _name(self, keyword: str, value: str) -> None:
        for group in value.split("="):
            components = [_parts_of(text) for text in group.split("^")[:3]]
            affixes = [_parts_of(text) for text in group.split("^")[3:]]
            parts = [part for component in components for part in component]
            short = keyword in _PATIENT_NAMES or len(parts) > 1
            kept = {part for part in parts if short or len(part) > 2}
            kept |= {part for affix in affixes for part in affix if len(part) > 3}
            self.sets["names"] |= {part for part in kept if _is_name(part)}
            self.sets["joined"] |= set(_joined(parts))
            # An identifier in place of a name; and numbers in it.
            if any(c.isdigit() for c in readable(group)):
                self._identifier(keyword, group)
            if keyword == "PatientName":
                firsts = "".join(part[0] for part in parts[:4] if not is_ideographic(part))
                if 2 <= len(firsts) <= 3:
                    self.sets["initials"].add(plain(firsts))

    def _identifier(self, keyword: str, value: str) -> None:
        whole = plain(value.strip(" \0^"))
        if not any(c.isalnum() for c in whole) or whole in _FILLERS:
            return
        shortest = _SHORTEST_PATIENT_IDENTIFIER if keyword in _PATIENT_IDS else _SHORTEST_IDENTIFIER
        if len(whole) >= shortest and not whole.isdigit():
            self.sets["wholes"].add(whole)
        runs = re.findall(r"\d+", whole)
        for run in (*runs, *(["".join(runs)] if len(runs) > 1 else [])):
            bare = run.lstrip("0")
            if len(bare) >= shortest:
                self.sets["numbers"].add(bare)
            elif bare and len(run) >= _SHORTEST_IDENTIFIER:
                self.sets["numbers"].add(run)


def _vr(dataset: Dataset, tag: Any) -> str:
    """The VR of an element, without its value being read where that is not needed."""
    from pydicom.datadict import dictionary_has_tag, dictionary_VR

    vr = dataset.get_item(tag).VR
    if vr in (None, "UN") and dictionary_has_tag(tag):
        return str(dictionary_VR(tag))
    return "LO" if vr is None else str(vr)


def _raw(dataset: Dataset, tag: Any) -> bytes:
    """The bytes of a text as they stand in the file."""
    from pydicom.valuerep import PersonName

    value = dataset.get_item(tag).value
    if isinstance(value, bytes):
        return value
    if isinstance(value, PersonName):
        original = value.original_string
        return original if isinstance(original, bytes) else b""
    return b""


def _values(element: Any) -> Iterable[str]:
    value = element.value
    if value is None or element.VR == "SQ":
        return []
    return [str(item) for item in (value if is_several(value) else [value])]


def _parts_of(component: str) -> list[str]:
    """The words of one component of a name, without titles, and without "von" beside others."""
    words = [word.casefold() for word in words_of(component)]
    words = [word for word in words if word not in _TITLES and word not in _FILLERS]
    names = [word for word in words if word not in _PARTICLES]
    return names or words


def _is_name(part: str) -> bool:
    """Whether it can be searched for: a single letter cannot, a single ideograph can."""
    return len(part) > 1 or is_ideographic(part)


def _joined(parts: list[str]) -> Iterator[str]:
    """Two names as one word, and a name with the initial of another."""
    for one, other in permutations(parts[:6], 2):
        for made in (one + other, one[0] + other, one + other[0]):
            whole = is_ideographic(made) and made == one + other
            if (whole or len(made) >= _SHORTEST_WORD) and made not in parts:
                yield made
