"""The DICOM instances that a result was made from: who the patient is, and what is referenced.

The header of the first file is read again; the scan knows the rest. Copies are mended where real
files break the standard (absent type 2 attributes become empty, unreadable dates too, text becomes
UTF-8); files are never changed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from medseg_nca import __version__
from medseg_nca.errors import OutputError
from medseg_nca.io.dicom.files.attributes import Attributes
from medseg_nca.io.dicom.files.elements import elements_of
from medseg_nca.io.dicom.objects.frames import FrameGrid, frame_grid
from medseg_nca.io.dicom.objects.values import LONG, UTF_8, new_uid, text
from medseg_nca.io.dicom.quiet import quiet
from medseg_nca.io.dicom.records import Plane, Source
from medseg_nca.io.segmentation import Algorithm, Segmentation
from medseg_nca.io.volume import Volume

if TYPE_CHECKING:
    from pydicom.dataelem import DataElement
    from pydicom.dataset import Dataset

MANUFACTURER, MODEL = "medseg_nca", "medseg_nca"
RESEARCH_USE = "Research use only. Not for clinical use."
# Added to the number of the source's series to number the series of each kind of result.
SERIES_NUMBERS = {"seg": 1000, "rtstruct": 2000, "sr": 3000, "sc": 4000, "notice": 5000}

# What describes patient and study, not the image: PS3.3 C.7.1.1, C.7.1.3, C.7.2.1 to C.7.2.3.
_TYPE_2 = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime",
    "AccessionNumber", "ReferringPhysicianName", "StudyID",
)  # fmt: skip
_COPIED = (
    *_TYPE_2, "StudyInstanceUID", "IssuerOfPatientID", "IssuerOfPatientIDQualifiersSequence",
    "TypeOfPatientID", "OtherPatientIDsSequence", "OtherPatientNames", "EthnicGroup",
    "PatientComments", "PatientSpeciesDescription", "PatientSpeciesCodeSequence",
    "PatientBreedDescription", "PatientBreedCodeSequence", "BreedRegistrationSequence",
    "ResponsiblePerson", "ResponsiblePersonRole", "ResponsibleOrganization",
    "PatientIdentityRemoved", "DeidentificationMethod", "DeidentificationMethodCodeSequence",
    "StudyDescription", "IssuerOfAccessionNumberSequence", "PhysiciansOfRecord",
    "ProcedureCodeSequence", "PatientAge", "PatientSize", "PatientWeight", "MedicalAlerts",
    "AdditionalPatientHistory", "PregnancyStatus", "PatientSexNeutered",
    "ClinicalTrialSponsorName", "ClinicalTrialProtocolID", "ClinicalTrialProtocolName",
    "ClinicalTrialSiteID", "ClinicalTrialSiteName", "ClinicalTrialSubjectID",
    "ClinicalTrialSubjectReadingID", "ClinicalTrialTimePointID",
    "ClinicalTrialTimePointDescription", "LongitudinalTemporalInformationModified",
)  # fmt: skip
# What the writers ask of the first instance beyond patient and study.
_GENERAL = (
    "SeriesNumber", "Modality", "SliceThickness", "PositionReferenceIndicator",
    "BurnedInAnnotation", "LossyImageCompression", "LossyImageCompressionRatio",
    "LossyImageCompressionMethod", "BodyPartExamined", "WindowCenter", "WindowWidth",
)  # fmt: skip
_DATE, _TIME = re.compile(r"\d{8}"), re.compile(r"\d{2}(\d{2}(\d{2}(\.\d{1,6})?)?)?")


@dataclass(frozen=True)
class Reference:
    """One instance, or one frame (1-based) of a multi-frame instance."""

    class_uid: str
    instance_uid: str
    frame: int | None = None


@dataclass(frozen=True)
class SourceImages:
    """The source of a result.

    Attributes:
        source: what the reader noted.
        header: mended patient, study and general attributes, text in UTF-8.
        references: of each plane, in the order of the planes.
        grid: the planes that results are written on.
        frame_of_reference: of the source; one made from the series UID where it has none.
    """

    source: Source
    header: Dataset
    references: tuple[Reference, ...]
    grid: FrameGrid
    frame_of_reference: str

    @cached_property
    def instances(self) -> tuple[Reference, ...]:
        """The instances without frames, each once."""
        found = {r.instance_uid: Reference(r.class_uid, r.instance_uid) for r in self.references}
        return tuple(found.values())

    @property
    def study(self) -> Dataset:
        """What of the header describes patient and study."""
        return _elements(self.header, _COPIED)

    @property
    def thickness(self) -> float:
        """Thickness of a slice in mm; the distance of the planes where the source has none."""
        try:
            thickness = float(self.header.get("SliceThickness") or 0)
        except (TypeError, ValueError):
            thickness = 0.0
        return thickness if thickness > 0 else self.grid.thickness

    def series_number(self, kind: str) -> int:
        """Return the number of the series of a kind of result, beside the source's number."""
        return series_number(self.header, kind)


def source_images(image: Volume, *, kind: str) -> SourceImages:
    """Read again the header of the first file that ``image`` came from.

    Args:
        image: a volume with ``header["dicom"]``.
        kind: what is to be written, for messages.

    Raises:
        OutputError: if the image did not come from DICOM, that file has changed since, or its
            voxels do not lie on its planes.
        ImageError: if that file cannot be read any more.
    """
    source = image.header.get("dicom")
    if not isinstance(source, Source):
        where = image.sources[0] if image.sources else "The image"
        raise OutputError(
            f"{where}: did not come from DICOM; {kind} needs the patient and study of a DICOM "
            "series.",
            hint="Write it as nifti, or turn the image into a series: medseg-nca dicom write.",
        )
    planes = source.stack.planes
    if not source.study_uid:
        raise OutputError(
            f"{planes[0].path}: has no StudyInstanceUID; {kind} needs the study of its source.",
            hint="Write the result as nifti.",
        )
    header = _header(planes[0])
    references = tuple(
        Reference(
            plane.sop_class_uid,
            plane.sop_instance_uid,
            None if plane.frame is None else plane.frame + 1,
        )
        for plane in planes
    )
    uid = source.frame_of_reference_uid or new_uid("frame of reference", source.series_uid)
    return SourceImages(source, mended(header), references, frame_grid(image), uid)


def series_number(header: Dataset, kind: str) -> int:
    """Return the number of the series of a kind of result, beside that of its source."""
    number = header.get("SeriesNumber")
    try:
        own = int(number) % 1000 if number else 1
    except (TypeError, ValueError):  # several values, or no number
        own = 1
    return SERIES_NUMBERS[kind] + own


def patient_and_study(header: Dataset) -> Dataset:
    """Return a mended copy of what of a header describes patient and study."""
    return _elements(mended(header), _COPIED)


def mended(header: Dataset) -> Dataset:
    """Return a copy of what describes patient, study and acquisition, fit to be written again."""
    copy = _elements(header, (*_COPIED, *_GENERAL))
    for keyword in _TYPE_2:
        if getattr(copy, keyword, None) is None:
            setattr(copy, keyword, "")
    for keyword, pattern in (
        ("PatientBirthDate", _DATE),
        ("StudyDate", _DATE),
        ("StudyTime", _TIME),
    ):
        if not pattern.fullmatch(str(copy.get(keyword, "")).strip()):
            setattr(copy, keyword, "")
    if "SliceThickness" not in copy and "SharedFunctionalGroupsSequence" in header:
        for measures in header.SharedFunctionalGroupsSequence[0].get("PixelMeasuresSequence", ()):
            copy.update(_elements(measures, ("SliceThickness",)))
    if copy.get("PatientIdentityRemoved") == "YES" and not (
        copy.get("DeidentificationMethod") or copy.get("DeidentificationMethodCodeSequence")
    ):
        copy.DeidentificationMethod = "Not stated by the source"
    if copy.PatientSex not in ("M", "F", "O", ""):
        copy.PatientSex = ""
    # pydicom holds decoded text and encodes it anew on writing.
    copy.SpecificCharacterSet = UTF_8
    return copy


def equipment(algorithm: Algorithm) -> dict[str, Any]:
    """Return who made an object, as highdicom's keyword arguments (PS3.3 C.7.5.1)."""
    package = text(algorithm.package_version or __version__)
    return {
        "manufacturer": MANUFACTURER,
        "manufacturer_model_name": MODEL,
        "device_serial_number": package,
        "software_versions": (text(f"medseg_nca {package}"), signature(algorithm)),
    }


def signature(algorithm: Algorithm) -> str:
    """Return ``name@version``, as one value of VR LO."""
    return text(f"{algorithm.name}@{algorithm.version}")


def series_description(title: str, segmentation: Segmentation) -> str:
    """Return the SeriesDescription of a result (VR LO): what it is, what made it, and its note."""
    note = text(f", {segmentation.note}") if segmentation.note else ""
    made = text(f"{title} {signature(segmentation.algorithm)}", LONG - len(note))
    return f"{made}{note}"


def reference_item(reference: Reference) -> Dataset:
    """Return an item of a referenced image sequence (PS3.3 10.3)."""
    from pydicom.dataset import Dataset

    item = Dataset()
    item.ReferencedSOPClassUID = reference.class_uid
    item.ReferencedSOPInstanceUID = reference.instance_uid
    if reference.frame is not None:
        item.ReferencedFrameNumber = reference.frame
    return item


def _header(plane: Plane) -> Dataset:
    """All that the file of a plane says; what describes patient and study is the same in all."""
    from medseg_nca.io.dicom.files.reader import read_header

    header = read_header(plane.path)
    with quiet():
        uid = Attributes(elements_of(header)).text("SOPInstanceUID")
    if uid != plane.sop_instance_uid:
        raise OutputError(
            f"{plane.path}: is another instance than the one that was segmented.",
            hint="Segment the series again.",
        )
    return header


def _elements(header: Dataset, keywords: Iterable[str]) -> Dataset:
    """Copy the elements that are valid; an optional one that is not is as good as absent."""
    from pydicom.dataset import Dataset

    found = Dataset()
    for keyword in keywords:
        try:
            if keyword in header and _is_valid(header[keyword]):
                found.add(header[keyword])
        except (ValueError, TypeError, NotImplementedError, OverflowError):
            continue
    return found


def _is_valid(element: DataElement) -> bool:
    """Whether a value keeps the rules of its VR; names and numbers of the patient always pass."""
    from pydicom.config import RAISE
    from pydicom.valuerep import validate_value

    if element.keyword in _TYPE_2 or element.VR == "SQ" or element.is_empty:
        return True
    for value in element.value if element.VM > 1 else [element.value]:
        validate_value(element.VR, getattr(value, "original_string", value), RAISE)
    return True
