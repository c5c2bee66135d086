"""De-identify DICOM objects by the Basic Application Level Confidentiality Profile (PS3.15 E.2).

The table of attributes comes from dicom-anonymizer (:mod:`.rules`). Walking the data set is
our own (:mod:`.cleaner`), because that package leaves UIDs and names inside sequences; so is what
the table does not cover: private and unknown elements, texts that repeat a name (:mod:`.words`),
what lies beside pixels (:mod:`.pixels`), the preamble and the file meta information.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from medseg_nca import __version__
from medseg_nca.io.atomic import atomic_file
from medseg_nca.io.dicom.deid.cleaner import Cleaner, bare_uid
from medseg_nca.io.dicom.deid.collect import identity_words, is_nobody
from medseg_nca.io.dicom.deid.pixels import clean_pixels
from medseg_nca.io.dicom.deid.pseudonyms import Pseudonyms
from medseg_nca.io.dicom.deid.words import IdentityWords
from medseg_nca.io.dicom.files.classes import STORAGE
from medseg_nca.io.dicom.problems import COPY_AGAIN, DicomError
from medseg_nca.io.dicom.quiet import quiet
from medseg_nca.io.dicom.records import Problem

if TYPE_CHECKING:
    from pydicom import Dataset
    from pydicom.dataset import FileDataset

Dates = Literal["remove", "shift"]

# Documents, raw data and sound: what is in them is not described by attributes.
_OPAQUE = (
    STORAGE + "104.",  # encapsulated PDF, CDA, STL, OBJ, MTL
    STORAGE + "9.4.",  # voice and general audio
)
_RAW_DATA = STORAGE + "66"
_DECLARED = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "PatientIdentityRemoved",
    "LongitudinalTemporalInformationModified", "DeidentificationMethod",
    "DeidentificationMethodCodeSequence",
)  # fmt: skip
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


def deidentify_dataset(
    dataset: Dataset, deidentifier: Deidentifier, words: IdentityWords | None = None
) -> FileDataset:
    """Return a de-identified copy; the original is not changed.

    Args:
        dataset: with its file meta information, pixels still in their transfer syntax.
        deidentifier: how.
        words: of the other files of the patient and of the study, searched for beside its own.

    Returns:
        A data set with new file meta information and an empty preamble, ready to be written with
        :func:`save_dataset`.

    Raises:
        DicomError: if the object holds a document, sound or raw data, is of an unknown kind, may
            have writing in its pixels and that is not allowed, or has pixels that cannot be
            decoded to look into their unused bits.
    """
    from pydicom import config

    with quiet(), config.disable_value_validation():
        _check(dataset, deidentifier)
        found = identity_words(dataset) | (words or IdentityWords())
        cleaner = Cleaner(deidentifier, found, _patient_of(dataset))
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


def _check(dataset: Dataset, how: Deidentifier) -> None:
    from pydicom.uid import UID

    sop_class = str(dataset.get("SOPClassUID") or "")
    name = _name_of(dataset)
    if "TransferSyntaxUID" not in getattr(dataset, "file_meta", ()):
        kind = "its transfer syntax is missing"
    elif not UID(dataset.file_meta.TransferSyntaxUID, validation_mode=0).is_transfer_syntax:
        kind = "its transfer syntax is unknown"
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


def _name_of(dataset: Dataset) -> str:
    return str(getattr(dataset, "filename", None) or "The object")


def _patient_of(dataset: Dataset) -> str:
    """What the patient's pseudonym is made from."""
    return patient_key(
        str(dataset.get("PatientID") or ""), str(dataset.get("StudyInstanceUID", ""))
    )


def patient_key(patient_id: str, study_uid: str) -> str:
    """The patient, or the study where none is named (ANON): two unknown ones are never merged."""
    return f"study {study_uid}" if is_nobody(patient_id) else patient_id.strip()


def _finish(result: Dataset, original: Dataset, cleaner: Cleaner) -> FileDataset:
    """Say what was done, and put new file meta information before it."""
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import UID

    _declare(result, cleaner)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = result.SOPClassUID
    meta.MediaStorageSOPInstanceUID = result.SOPInstanceUID
    meta.TransferSyntaxUID = UID(bare_uid(original.file_meta.TransferSyntaxUID))
    made = FileDataset(
        "", result, preamble=b"\0" * 128, file_meta=meta,
        is_implicit_VR=meta.TransferSyntaxUID.is_implicit_VR,
        is_little_endian=meta.TransferSyntaxUID.is_little_endian,
    )  # fmt: skip
    try:
        clean_pixels(made)
    except DicomError as error:
        problem = error.problem
        message = f"{_name_of(original)}: {problem.message}"
        raise DicomError(Problem(problem.kind, message), hint=error.hint) from error
    except (ValueError, AttributeError, KeyError, TypeError, EOFError) as error:
        text = f"{_name_of(original)}: its pixel data is damaged, so it cannot be cleaned."
        raise DicomError(Problem("damaged", text), hint=COPY_AGAIN) from error
    return made


def _declare(result: Dataset, cleaner: Cleaner) -> None:
    """PS3.15 E.2: PatientIdentityRemoved, and which profile and options were applied."""
    from pydicom import Dataset as New

    for keyword in _DECLARED:  # whatever VR it had
        if keyword in result:
            delattr(result, keyword)
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
