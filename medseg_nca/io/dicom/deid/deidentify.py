"""De-identify DICOM objects by the Basic Application Level Confidentiality Profile (PS3.15 E.2).

The table of attributes comes from dicom-anonymizer (:mod:`.rules`). Walking the data set is
our own, because that package leaves UIDs and names inside sequences; so is what the table does not
cover: private and unknown elements, texts that repeat a name (:mod:`.words`), comments in
compressed frames (:mod:`.pixels`), the preamble and the file meta information.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from medseg_nca import __version__
from medseg_nca.io.atomic import atomic_file
from medseg_nca.io.dicom.deid.pixels import clean_pixels, clear_unused_bits, hides_overlay
from medseg_nca.io.dicom.deid.pseudonyms import Pseudonyms
from medseg_nca.io.dicom.deid.rules import Action, action_of, is_dated
from medseg_nca.io.dicom.deid.words import IdentityWords, identity_words, is_several, uids_in
from medseg_nca.io.dicom.files.classes import STORAGE
from medseg_nca.io.dicom.problems import COPY_AGAIN, DicomError
from medseg_nca.io.dicom.quiet import quiet
from medseg_nca.io.dicom.records import Problem

if TYPE_CHECKING:
    from pydicom import DataElement, Dataset
    from pydicom.dataset import FileDataset

Dates = Literal["remove", "shift"]

REMOVED = "REMOVED"
_DUMMY_TIMES = {"DA": "19000101", "TM": "000000", "DT": "19000101000000", "AS": "000Y"}
_NUMBERS = {"DS", "IS", "FD", "FL", "SS", "US", "SL", "UL", "SV", "UV"}
_SCRUBBED = {"AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"}
_PIXELS = {"PixelData", "FloatPixelData", "DoubleFloatPixelData"}
# Names that a person gave to a structure; what becomes of them is the caller's choice.
_LABELS = {"ROIName", "ROIObservationLabel", "SegmentLabel"}
# What an instance is and how it is stored: never a patient's.
_CLASSES = re.compile(r"(SOPClass|TransferSyntax|SpecializedSOPClass|SOPClasses)")
# Documents, raw data and sound: what is in them is not described by attributes.
_OPAQUE = (
    STORAGE + "104.",  # encapsulated PDF, CDA, STL, OBJ, MTL
    STORAGE + "9.4.",  # voice and general audio
)
_RAW_DATA = STORAGE + "66"
# Modalities that write the patient's name into the pixels more often than others.
_WRITING_MODALITIES = frozenset({"US", "IVUS", "XA", "RF", "ES", "XC", "GM", "OT", "DOC"})


@dataclass(frozen=True)
class Deidentifier:
    """How objects are de-identified; one for all files of a run.

    Attributes:
        pseudonyms: made with the secret key of the run.
        dates: ``remove`` empties dates and times or writes dummies (basic profile); ``shift`` moves
            all dates of a patient by the same number of days and keeps the time of day
            (Retain Longitudinal Temporal Information With Modified Dates Option).
        keep_labels: keep the names of segments and regions of interest, unless they hold a name;
            without it a region is called ``ROI <number>``.
        allow_burned_in: do not refuse images that have, or often have, writing in their pixels.
    """

    pseudonyms: Pseudonyms = field(default_factory=Pseudonyms.random)
    dates: Dates = "remove"
    keep_labels: bool = False
    allow_burned_in: bool = False

    def dataset(self, dataset: Dataset) -> FileDataset:
        """See :func:`deidentify_dataset`."""
        return deidentify_dataset(dataset, self)


def deidentify_dataset(dataset: Dataset, deidentifier: Deidentifier) -> FileDataset:
    """Return a de-identified copy; the original is not changed.

    Args:
        dataset: with its file meta information, pixels still in their transfer syntax.
        deidentifier: how.

    Returns:
        A data set with new file meta information and an empty preamble, ready to be written with
        :func:`save_dataset`.

    Raises:
        DicomError: if the object holds a document, sound or raw data, is of an unknown kind, or may
            have writing in its pixels and that is not allowed.
    """
    from pydicom import config

    with quiet(), config.disable_value_validation():
        _check(dataset, deidentifier)
        cleaner = _Cleaner(deidentifier, identity_words(dataset), _patient_of(dataset))
        result = cleaner.clean(dataset)
        return _finish(result, dataset, cleaner)


def burned_in(dataset: Dataset) -> Problem | None:
    """Tell whether an image has, or may have, writing in its pixels (PS3.15 E.3.1).

    ``BurnedInAnnotation`` decides. Where it is missing, secondary captures, screen shots and
    modalities that write into their images (ultrasound, angiography, ...) are suspected.
    """
    if "Rows" not in dataset:  # the pixels themselves may have been left out
        return None
    flag = str(dataset.get("BurnedInAnnotation") or "").strip().upper()
    if flag == "YES":
        return Problem("burned-in-annotation", "BurnedInAnnotation is YES.")
    if flag == "NO":
        return None
    modality = str(dataset.get("Modality") or "").strip().upper()
    kind = " ".join(map(str, dataset.get("ImageType") or ())).upper()
    if modality in _WRITING_MODALITIES or "ConversionType" in dataset or "SCREEN" in kind:
        return Problem(
            "burned-in-annotation",
            "BurnedInAnnotation is not given, and such images often have writing in them.",
        )
    return None


def save_dataset(dataset: FileDataset, path: Path) -> None:
    """Write what :func:`deidentify_dataset` returned.

    Raises:
        OutputError: if the file cannot be written.
    """
    from pydicom import config

    with quiet(), config.disable_value_validation(), atomic_file(path) as new:
        dataset.save_as(new, enforce_file_format=True)


class _Cleaner:
    """Treats one object, element by element, at every depth."""

    def __init__(self, how: Deidentifier, words: IdentityWords, patient: str) -> None:
        self.how = how
        self.words = words
        self.patient = patient

    def clean(self, dataset: Dataset, *, dummies: bool = False) -> Dataset:
        """Return a clean copy; ``dummies`` replaces every text in it."""
        from pydicom import Dataset as New

        result = New()
        for tag in list(dataset.keys()):
            try:
                element = self._element(dataset[tag], dummies)
            except Exception:  # a value that cannot be read cannot be cleaned
                continue
            if element is not None:
                result[element.tag] = element
        if self.how.keep_labels is False and "ROINumber" in dataset and "ROIName" in dataset:
            result.ROIName = f"ROI {dataset.ROINumber}"
        return result

    def _element(self, element: DataElement, dummies: bool) -> DataElement | None:
        action = action_of(element.tag, element.VR)
        if element.keyword in _LABELS and self.how.keep_labels:
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
        return self._kept(element)

    def _sequence(self, element: DataElement, action: Action, dummies: bool) -> DataElement:
        if action is Action.EMPTY and not dummies:
            return _new(element, [])
        every = dummies or action is Action.DUMMY
        return _new(element, [self.clean(item, dummies=every) for item in element.value or ()])

    def _uids(self, element: DataElement) -> DataElement:
        if _CLASSES.search(element.keyword):
            return _new(element, element.value)
        return _new(element, _each(element.value, self._uid))

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

    def _kept(self, element: DataElement) -> DataElement | None:
        if element.VR in _SCRUBBED:
            return _new(element, _each(element.value, self._scrub))
        binary = isinstance(element.value, bytes) and element.keyword not in _PIXELS
        if binary and self.words.found_in_bytes(element.value):
            return None
        return _new(element, element.value)

    def _scrub(self, value: Any) -> Any:
        text = str(value or "")
        if self.words.found_in(text):
            return REMOVED
        for match in reversed(list(uids_in(text))):
            text = text[: match.start()] + self._uid(match[0]) + text[match.end() :]
        return text


def _check(dataset: Dataset, how: Deidentifier) -> None:
    from pydicom.uid import UID

    sop_class = str(dataset.get("SOPClassUID") or "")
    name = _name_of(dataset)
    if "TransferSyntaxUID" not in getattr(dataset, "file_meta", ()):
        kind = "its transfer syntax is missing"
    elif not dataset.get("SOPInstanceUID"):
        kind = "its SOPInstanceUID is missing"
    elif not sop_class.startswith(STORAGE):  # also kinds that pydicom does not know yet
        kind = f"its SOP class is {'unknown' if sop_class else 'missing'}"
    elif sop_class == _RAW_DATA or sop_class.startswith(_OPAQUE):
        name_of_kind = UID(sop_class, validation_mode=0).name
        kind = f"it is of the kind {name_of_kind}, whose content cannot be cleaned"
    else:
        problem = None if how.allow_burned_in else burned_in(dataset)
        if problem is None:
            return
        raise DicomError(
            Problem(problem.kind, f"{name}: {problem.message}"),
            hint="Look at it; if nothing in the pixels names the patient, allow such images "
            "(--allow-burned-in).",
        )
    raise DicomError(Problem("cannot-be-deidentified", f"{name}: {kind}."))


def _is_registered(uid: str) -> bool:
    """Whether the standard gave this UID its meaning (PS3.6 annex A)."""
    from pydicom.uid import UID

    return bool(UID(uid, validation_mode=0).name != uid)


def _name_of(dataset: Dataset) -> str:
    return str(getattr(dataset, "filename", None) or "The object")


def _patient_of(dataset: Dataset) -> str:
    """What the patient's pseudonym is made from."""
    return patient_key(
        str(dataset.get("PatientID") or ""), str(dataset.get("StudyInstanceUID", ""))
    )


def patient_key(patient_id: str, study_uid: str) -> str:
    """The patient, or the study where no patient is named: two unknown ones are never merged."""
    return patient_id.strip() or f"study {study_uid}"


def _finish(result: Dataset, original: Dataset, cleaner: _Cleaner) -> FileDataset:
    """Say what was done, and put new file meta information before it."""
    from pydicom.dataset import FileDataset, FileMetaDataset

    _declare(result, cleaner)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = result.SOPClassUID
    meta.MediaStorageSOPInstanceUID = result.SOPInstanceUID
    meta.TransferSyntaxUID = original.file_meta.TransferSyntaxUID
    made = FileDataset(
        "", result, preamble=b"\0" * 128, file_meta=meta,
        is_implicit_VR=meta.TransferSyntaxUID.is_implicit_VR,
        is_little_endian=meta.TransferSyntaxUID.is_little_endian,
    )  # fmt: skip
    try:
        clean_pixels(made)
        if hides_overlay(original):
            clear_unused_bits(made)
    except (ValueError, AttributeError, KeyError, TypeError, EOFError) as error:
        text = f"{_name_of(original)}: its pixel data is damaged, so it cannot be cleaned."
        raise DicomError(Problem("damaged", text), hint=COPY_AGAIN) from error
    return made


def _declare(result: Dataset, cleaner: _Cleaner) -> None:
    """PS3.15 E.2: PatientIdentityRemoved, and which profile and options were applied."""
    from pydicom import Dataset as New

    pseudonym = cleaner.how.pseudonyms.patient(cleaner.patient)
    result.PatientName = result.PatientID = pseudonym
    result.PatientBirthDate = result.PatientSex = ""
    result.PatientIdentityRemoved = "YES"
    shift = cleaner.how.dates == "shift"
    result.LongitudinalTemporalInformationModified = "MODIFIED" if shift else "REMOVED"
    result.DeidentificationMethod = f"medseg-nca {__version__}, PS3.15 table E.1-1"
    codes = [("113100", "Basic Application Confidentiality Profile")]
    if shift:
        codes.append(("113107", "Retain Longitudinal Temporal Information Modified Dates Option"))
    items = []
    for value, meaning in codes:
        item = New()
        item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "DCM", meaning
        items.append(item)
    result.DeidentificationMethodCodeSequence = items


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
    """Move a DA or DT value; a time of day stays; what is no date is dropped."""
    if vr == "TM" or not text:
        return text
    match = re.fullmatch(r"(\d{4})\.?(\d{2})\.?(\d{2})(.*)", text.strip())
    if match is None or (vr == "DA" and match[4]):
        return ""
    try:
        day = datetime.date(int(match[1]), int(match[2]), int(match[3]))
        return (day - datetime.timedelta(days=days)).strftime("%Y%m%d") + match[4]
    except (ValueError, OverflowError):
        return ""
