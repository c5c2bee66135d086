"""A DICOM object in the study of a series that says why the series got no segmentation.

It is a Basic Text SR (PS3.3 A.35.1), or a Secondary Capture (A.8.1) for viewers that show no
reports. Its UIDs are derived from the job, its model and what it says: made again, it is the same
object for an archive. Texts have the concept names of PS3.16 (CID 7000, TID 1004); where there is
no code for something, it is said in words.
"""

from __future__ import annotations

import datetime
import logging
import textwrap
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medseg_nca.errors import OutputError
from medseg_nca.io.atomic import atomic_folder
from medseg_nca.io.dicom.files.reader import read_header
from medseg_nca.io.dicom.objects.instance import save
from medseg_nca.io.dicom.objects.source import (
    RESEARCH_USE,
    equipment,
    patient_and_study,
    series_number,
    signature,
)
from medseg_nca.io.dicom.objects.values import UTF_8, is_uid, new_uid, quiet_writing, text
from medseg_nca.io.dicom.problems import DicomError
from medseg_nca.io.dicom.quiet import quiet
from medseg_nca.io.segmentation import Algorithm
from medseg_nca.serving.audit import AuditLog
from medseg_nca.serving.catalogue import Catalogue
from medseg_nca.serving.errors import Refused
from medseg_nca.serving.jobs.disk import to_disk
from medseg_nca.serving.jobs.records import Failure, JobRecord

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

logger = logging.getLogger(__name__)

FILE = "notice.dcm"
TITLE = "No segmentation"
# Bytes of a damaged file that are read for its header.
_LONGEST_HEAD = 2**24
# Of the picture: columns, letters in a line, rows of a line, rows and columns around the text.
_WIDTH, _LETTERS, _LINE, _MARGIN = 640, 72, 20, 24


class FailureNotices:
    """Makes the notices of failed jobs.

    Args:
        catalogue: of the models that are served, for their versions.
        audit: gets a line for each notice.
    """

    def __init__(self, catalogue: Catalogue, audit: AuditLog) -> None:
        self._catalogue, self._audit = catalogue, audit

    def make(self, job: JobRecord, failure: Failure, received: Path, folder: Path) -> str | None:
        """See :class:`medseg_nca.serving.jobs.notices.Notices`.

        There is none where no file is whole enough to say whose study it is.
        """
        made = False
        try:
            header = _source_header(received)
            if header is not None:
                algorithm = Algorithm(job.model, self._version(job.model))
                with quiet_writing():
                    _write(notice(header, job, failure, algorithm), folder)
                made = True
        except OutputError as error:  # the disk is full, and the end of the job has to wait
            raise error.__cause__ if isinstance(error.__cause__, OSError) else error from None
        except Exception as error:  # its text may quote the file; the job has to end all the same
            logger.error("Job %s: no notice could be made (%s).", job.id, type(error).__name__)
        self._note(job, "made" if made else "not made")
        return FILE if made else None

    def _version(self, model: str) -> str:
        try:
            return self._catalogue.get(model).info.version
        except Refused:  # it is no longer served
            return ""

    def _note(self, job: JobRecord, outcome: str) -> None:
        try:
            self._audit.write(
                "notice", user=job.owner, outcome=outcome, job=job.id, series=job.series
            )
        except OSError as error:  # a full disk must not keep a job from its end
            logger.error("Job %s: no line in the audit log (%s).", job.id, error.strerror)


def notice(header: Dataset, job: JobRecord, failure: Failure, algorithm: Algorithm) -> Dataset:
    """Build the object, as ``job.options.notice`` wants it.

    Args:
        header: of an instance of the series.
        job: that failed.
        failure: why.
        algorithm: the model, and its version.
    """
    from pydicom.uid import BasicTextSRStorage, SecondaryCaptureImageStorage

    kind = job.options.notice
    picture = kind == "sc"
    seed = ("notice", kind, job.id, failure.status, failure.detail, failure.hint or "",
            signature(algorithm))  # fmt: skip
    dataset, now = patient_and_study(header), datetime.datetime.now()
    dataset.SpecificCharacterSet = UTF_8
    dataset.SOPClassUID = SecondaryCaptureImageStorage if picture else BasicTextSRStorage
    dataset.SOPInstanceUID = new_uid(*seed, "instance")
    dataset.SeriesInstanceUID = new_uid(*seed, "series")
    dataset.SeriesNumber, dataset.InstanceNumber = series_number(header, "notice"), 1
    dataset.SeriesDescription = text(f"{TITLE}: {failure.detail}")
    dataset.Modality = "OT" if picture else "SR"
    for name in ("Series", "InstanceCreation", "Content"):
        setattr(dataset, f"{name}Date", now.strftime("%Y%m%d"))
        setattr(dataset, f"{name}Time", now.strftime("%H%M%S"))
    made_by = equipment(algorithm)
    dataset.Manufacturer = made_by["manufacturer"]
    dataset.ManufacturerModelName = made_by["manufacturer_model_name"]
    dataset.DeviceSerialNumber = made_by["device_serial_number"]
    dataset.SoftwareVersions = list(made_by["software_versions"])
    said = _said(failure)
    if picture:
        _add_picture(dataset, [*said, f"Model {signature(algorithm)}."])
    else:
        _add_text(dataset, said, header, algorithm)
    return dataset


def _said(failure: Failure) -> list[str]:
    said = [f"{TITLE} was made of this series.", failure.detail]
    return [*said, *([failure.hint] if failure.hint else []), RESEARCH_USE]


def _source_header(folder: Path) -> Dataset | None:
    """The header of the first file that says which study and series it is of."""
    for path in sorted(folder.glob("*")):
        try:
            header: Dataset = read_header(path)
        except DicomError as error:
            if error.problem.kind != "truncated" or (found := _head(path)) is None:
                continue
            header = found
        if all(is_uid(str(header.get(f"{of}InstanceUID", ""))) for of in ("Study", "Series")):
            return header
    return None


def _head(path: Path) -> Dataset | None:
    """The header of a file whose pixels are cut; None where that cannot be read either."""
    from pydicom import dcmread
    from pydicom.filereader import read_file_meta_info
    from pydicom.uid import DeflatedExplicitVRLittleEndian

    with quiet(), suppress(Exception):  # pydicom raises whatever it stumbles on
        # A deflated data set may unfold to any size.
        if read_file_meta_info(path).TransferSyntaxUID != DeflatedExplicitVRLittleEndian:
            with path.open("rb") as file:
                return dcmread(BytesIO(file.read(_LONGEST_HEAD)), stop_before_pixels=True)
    return None


def _write(dataset: Dataset, folder: Path) -> None:
    with atomic_folder(folder) as made:
        save(dataset, made / FILE)
        to_disk(made / FILE, made)
    to_disk(folder.parent)


def _add_text(dataset: Dataset, said: list[str], header: Dataset, algorithm: Algorithm) -> None:
    """The modules SR document general and SR document content (PS3.3 C.17.2, C.17.3)."""
    from pydicom.sr.codedict import codes

    dataset.ReferencedPerformedProcedureStepSequence = []
    dataset.PerformedProcedureCodeSequence = []
    dataset.CompletionFlag, dataset.VerificationFlag = "COMPLETE", "UNVERIFIED"
    dataset.ValueType, dataset.ContinuityOfContent = "CONTAINER", "SEPARATE"
    dataset.ConceptNameCodeSequence = [_concept(codes.LN.DiagnosticImagingReport)]
    dcm, made_by = codes.DCM, equipment(algorithm)
    device = new_uid("device", *made_by["software_versions"])
    observer: list[tuple[Any, str, Any]] = [
        (dcm.ObserverType, "CODE", dcm.Device),
        (dcm.DeviceObserverUID, "UIDREF", device),
        (dcm.DeviceObserverName, "TEXT", signature(algorithm)),
        (dcm.DeviceObserverManufacturer, "TEXT", made_by["manufacturer"]),
        (dcm.DeviceObserverModelName, "TEXT", made_by["manufacturer_model_name"]),
        (dcm.DeviceObserverSerialNumber, "TEXT", made_by["device_serial_number"]),
    ]
    content: list[tuple[Any, str, Any]] = [
        *((dcm.Comment, "TEXT", line) for line in said),
        (dcm.SeriesInstanceUID, "UIDREF", str(header.SeriesInstanceUID)),
        (dcm.AlgorithmName, "TEXT", text(algorithm.name) or "unnamed"),
        (dcm.AlgorithmVersion, "TEXT", text(algorithm.version) or "unknown"),
    ]
    dataset.ContentSequence = [
        *(_item("HAS OBS CONTEXT", *entry) for entry in observer),
        *(_item("CONTAINS", *entry) for entry in content),
    ]


def _item(relation: str, name: Any, kind: str, value: Any) -> Dataset:
    from pydicom.dataset import Dataset

    item = Dataset()
    item.RelationshipType, item.ValueType = relation, kind
    item.ConceptNameCodeSequence = [_concept(name)]
    if kind == "CODE":
        item.ConceptCodeSequence = [_concept(value)]
    elif kind == "UIDREF":
        item.UID = value
    else:
        item.TextValue = value
    return item


def _concept(code: Any) -> Dataset:
    from pydicom.dataset import Dataset

    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator = code.value, code.scheme_designator
    item.CodeMeaning = code.meaning
    return item


def _add_picture(dataset: Dataset, said: list[str]) -> None:
    """The modules SC equipment, general image, image pixel and SC image (PS3.3 C.8.6, C.7.6)."""
    from PIL import Image, ImageDraw, ImageFont

    lines = [line for part in said for line in (*textwrap.wrap(part, _LETTERS), "")]
    height = len(lines) * _LINE + 2 * _MARGIN
    canvas = Image.new("L", (_WIDTH, height))
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(size=15)
    for number, line in enumerate(lines):
        draw.text((_MARGIN, _MARGIN + number * _LINE), line, fill=255, font=font)
    dataset.ConversionType = "WSD"
    dataset.ImageType = ["DERIVED", "SECONDARY"]
    dataset.ImageComments = RESEARCH_USE
    dataset.PatientOrientation, dataset.Laterality = "", ""
    dataset.Rows, dataset.Columns = height, _WIDTH
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8, 8, 7
    dataset.PixelRepresentation = 0
    dataset.PixelData = canvas.tobytes()  # an even number of columns, and so of bytes
    dataset["PixelData"].VR = "OB"
