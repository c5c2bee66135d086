"""What becomes of each element of a data set, at every depth."""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from medseg_nca.io.dicom.deid.profiles import clean_profile
from medseg_nca.io.dicom.deid.rules import MODALITIES, SCHEMES, Action, action_of, is_dated
from medseg_nca.io.dicom.deid.words import IdentityWords, is_several, uids_in

if TYPE_CHECKING:
    from pydicom import DataElement, Dataset

    from medseg_nca.io.dicom.deid.deidentify import Deidentifier

REMOVED = "REMOVED"
_DUMMY_TIMES = {"DA": "19000101", "TM": "000000", "DT": "19000101000000", "AS": "000Y"}
_NUMBERS = {"DS", "IS", "FD", "FL", "SS", "US", "SL", "UL", "SV", "UV"}
_SCRUBBED = {"AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"}
_PIXELS = {"PixelData", "FloatPixelData", "DoubleFloatPixelData"}
# Names that a person gave to a structure; the caller chooses whether they are kept.
_LABELS = {"ROIName", "ROIObservationLabel", "SegmentLabel"}
_CODES = {
    "CodeValue", "LongCodeValue", "URNCodeValue", "CodingSchemeDesignator", "CodingSchemeVersion",
    "CodingSchemeRegistry", "CodingSchemeExternalID", "MappingResource", "ContextIdentifier",
}  # fmt: skip
# Terms of the standard that look like names or hold one. They stay, because no person typed them.
_TERM_WORDS = """
    YES NO ORIGINAL DERIVED PRIMARY SECONDARY AXIAL LOCALIZER VOLUME NONE MIXED MONOCHROME1
    MONOCHROME2 RGB YBR_FULL YBR_FULL_422 YBR_ICT YBR_RCT HFS HFP FFS FFP HFDR HFDL FFDR FFDL
    L R U B M F O HU US OD SE GR IR EP RM SS MP SK SP PFP 1D 2D 3D MANUAL SEMIAUTOMATIC
    AUTOMATIC BINARY FRACTIONAL LABELMAP ORGAN PTV CTV GTV MIN MAX MEAN AX COR SAG POINT
    OPEN_PLANAR CLOSED_PLANAR CT_SOM5 MPR MIP NORM DIS2D DIS3D ND ADC TRACEW FA PHASE MAG REAL
    IMAGINARY HEAD BODY
"""
_TERMS = MODALITIES | frozenset(_TERM_WORDS.split())
# A number of this many digits may be a date or an identifier, and is not taken for a count.
_LONG_NUMBER = 6
# Replaces bytes that are no text in the character set of the file, and so cannot be searched.
_UNREADABLE = "\ufffd"
_UID = re.compile(r"[0-2](?:\.(?:0|[1-9]\d*))+")
# UIDs that the standard gives to classes and syntaxes. Others may contain a number of the patient.
_STANDARD = re.compile(r"1\.2\.840\.10008(?:\.\d{1,4})+")
# What may follow the day in a DT, and the form of a TM (PS3.5 table 6.2-1; TM once had colons).
_AFTER_DAY = re.compile(r"\d{0,6}(?:\.\d{1,6})?(?:[+-]\d{4})?")
_TIME = re.compile(r"\d{2}(?::?\d{2}(?::?\d{2}(?:\.\d{1,6})?)?)?")
# Elements that say what an instance is and how it is stored: they never identify a patient.
_CLASSES = re.compile(r"(SOPClass|TransferSyntax|SpecializedSOPClass|SOPClasses)")


class Cleaner:
    """Treats one object, element by element, at every depth."""

    def __init__(self, how: Deidentifier, words: IdentityWords, patient: str) -> None:
        self.how = how
        self.words = words
        self.patient = patient

    def clean(self, dataset: Dataset, *, dummies: bool = False, nested: bool = False) -> Dataset:
        """Return a clean copy; ``dummies`` replaces every text in it."""
        from pydicom import Dataset as New
        from pydicom.datadict import keyword_for_tag

        result = New()
        scheme = str(dataset.get("CodingSchemeDesignator") or "").strip() in SCHEMES
        for tag in list(dataset.keys()):
            if nested and keyword_for_tag(tag) in _PIXELS:  # a small picture of the patient
                continue
            try:
                element = self._element(dataset[tag], dummies, scheme)
            except Exception:  # a value that cannot be read cannot be cleaned
                continue
            if element is not None:
                result[element.tag] = element
        if self.how.keep_labels is False and "ROINumber" in dataset and "ROIName" in dataset:
            result.ROIName = f"ROI {dataset.ROINumber}"
        return result

    def _element(self, element: DataElement, dummies: bool, scheme: bool) -> DataElement | None:
        action = action_of(element.tag, element.VR)
        if element.keyword in _LABELS and self.how.keep_labels and element.VR in _SCRUBBED:
            action = Action.KEEP
        if action is Action.REMOVE:
            moved = self.how.dates == "shift" and is_dated(element.tag, element.VR)
            return self._time(element, action) if moved else None
        if element.VR == "SQ":
            return self._sequence(element, action, dummies)
        if element.VR == "UI":
            return self._uids(element)
        if element.VR in _DUMMY_TIMES and action is not Action.KEEP:
            return self._time(element, action)
        if action is Action.EMPTY and not dummies:
            return _new(element, None if element.VR in _NUMBERS else _blank(element.VR))
        if action is Action.DUMMY or (dummies and element.VR in _SCRUBBED):
            return _dummy(element)
        return self._kept(element, scheme)

    def _sequence(self, element: DataElement, action: Action, dummies: bool) -> DataElement:
        if action is Action.EMPTY and not dummies:
            return _new(element, [])
        every = dummies or action is Action.DUMMY
        items = [self.clean(item, dummies=every, nested=True) for item in element.value or ()]
        return _new(element, items)

    def _uids(self, element: DataElement) -> DataElement:
        if _CLASSES.search(element.keyword):
            return _new(element, _each(element.value, self._class))
        return _new(element, _each(element.value, self._uid))

    def _class(self, value: Any) -> Any:
        uid = bare_uid(value)
        return uid if _STANDARD.fullmatch(uid) else self._uid(value)

    def _uid(self, value: Any) -> Any:
        text = str(value or "").strip(" \0")
        return text if not text or _is_registered(text) else self.how.pseudonyms.uid(text)

    def _time(self, element: DataElement, action: Action) -> DataElement:
        birth = element.keyword == "PatientBirthDate"
        if self.how.dates == "shift" and element.VR != "AS" and not birth:
            days = self.how.pseudonyms.days(self.patient)
            shifted = _each(element.value, lambda value: _shift(str(value), element.VR, days))
            return _new(element, shifted)
        if action is Action.EMPTY or not element.value:
            return _new(element, "")
        return _new(element, _DUMMY_TIMES[element.VR])

    def _kept(self, element: DataElement, scheme: bool) -> DataElement | None:
        if element.keyword == "SpecificCharacterSet":
            return _new(element, _each(element.value, _character_set))
        if element.VR in _SCRUBBED:
            code = scheme and element.keyword in _CODES
            label = element.keyword in _LABELS
            return _new(element, _each(element.value, lambda v: self._scrub(v, code, label)))
        if element.VR in {"DS", "IS"}:
            return _new(element, _each(element.value, self._number))
        if isinstance(element.value, bytes) and element.keyword not in _PIXELS:
            return self._bytes(element)
        return _new(element, element.value)

    def _bytes(self, element: DataElement) -> DataElement | None:
        value: bytes | None = element.value
        if element.keyword == "ICCProfile" and value:
            value = clean_profile(value, self.words.found_in)
        if value is None or self.words.found_in_bytes(value):
            return None
        return _new(element, value)

    def _number(self, value: Any) -> Any:
        """A number, unless its digits are a date or an identifier."""
        text = str(getattr(value, "original_string", value)).strip()
        digits = re.split(r"[.eE]", text.lstrip("+-"))[0]
        if len(digits) < _LONG_NUMBER or not digits.isdigit():
            return value
        named = digits.lstrip("0") in self.words.numbers or self.words.found_in(
            digits, loose=len(digits) > _LONG_NUMBER
        )
        return 0 if named else value

    def _scrub(self, value: Any, code: bool, label: bool) -> Any:
        text = str(value or "")
        if text.strip().upper() in _TERMS and not label:
            return text
        words = self.words
        named = (
            _UNREADABLE in text or words.found_in_label(text)
            if label
            else words.found_in(text, loose=not code)
        )
        if named:
            return REMOVED
        for match in reversed(list(uids_in(text))):
            text = text[: match.start()] + self._uid(match[0]) + text[match.end() :]
        return text


def bare_uid(value: Any) -> str:
    """The UID at the start of a value: a class cannot be replaced, what stands behind it can."""
    match = _UID.match(str(value or ""))
    return match[0] if match and len(match[0]) <= 64 else ""


def _character_set(value: Any) -> str:
    from pydicom.charset import python_encoding

    return str(value) if str(value or "") in python_encoding else ""


def _is_registered(uid: str) -> bool:
    """Whether the standard gave this UID its meaning (PS3.6 annex A)."""
    from pydicom.uid import UID

    return bool(UID(uid, validation_mode=0).name != uid)


def _new(element: DataElement, value: Any) -> DataElement:
    from pydicom import DataElement as New
    from pydicom import Sequence

    return New(element.tag, element.VR, Sequence(value) if element.VR == "SQ" else value)


def _blank(vr: str) -> Any:
    return b"" if vr in {"OB", "OW", "OF", "OD", "OL", "OV", "UN"} else ""


def _dummy(element: DataElement) -> DataElement | None:
    """A value that says nothing and fits the VR; None, to be removed, where there is none."""
    if element.VR in _SCRUBBED:
        return _new(element, REMOVED if element.value else "")
    if element.VR in _NUMBERS:
        return _new(element, 0)
    return None


def _each(value: Any, change: Callable[[Any], Any]) -> Any:
    if value is None:
        return None
    return [change(item) for item in value] if is_several(value) else change(value)


def _shift(text: str, vr: str, days: int) -> str:
    """Move a DA or DT value; a time of day stays; what is neither is dropped."""
    text = text.strip(" \0")
    if vr == "TM":
        return text if _TIME.fullmatch(text) else ""
    match = re.fullmatch(r"(\d{4})\.?(\d{2})\.?(\d{2})(.*)", text)
    if match is None or not _AFTER_DAY.fullmatch(match[4]) or (vr == "DA" and match[4]):
        return ""
    try:
        day = datetime.date(int(match[1]), int(match[2]), int(match[3]))
        return (day - datetime.timedelta(days=days)).strftime("%Y%m%d") + match[4]
    except (ValueError, OverflowError):
        return ""
