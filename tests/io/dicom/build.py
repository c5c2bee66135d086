"""Small synthetic DICOM files of any geometry and transfer syntax, for every DICOM test.

Pixels are ``(planes, rows, columns)`` as DICOM has them, or ``(planes, rows, columns, 3)`` in
colour. An affine maps ``(column, row, plane)`` to LPS millimetres: no flips, unlike the arrays of a
``Volume`` (see ``medseg_nca/io/dicom/records.py``).

>>> paths = write(folder, classic(pixels, affine(spacing=(0.8, 0.8, 3.0), degrees=(20, -10, 5))))
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    EnhancedCTImageStorage,
    EnhancedMRImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    MRImageStorage,
    PositronEmissionTomographyImageStorage,
    RLELossless,
    SecondaryCaptureImageStorage,
    generate_uid,
)

from tests.io.dicom.packing import JPEG, pack_frames, set_pixels

# What no output may leak: every value is unlike anything else in a file.
PATIENT = {
    "PatientName": "Zorrofake^Quixotina",
    "PatientID": "FAKEID-0815-XQ",
    "PatientBirthDate": "19010203",
    "PatientSex": "F",
    "PatientAge": "101Y",
    "OtherPatientIDs": "FAKEOTHER-4711",
    "PatientAddress": "1 Fakestreetzq",
    "AccessionNumber": "FAKEACC-99",
    "StudyID": "FAKESTUDY-7",
    "ReferringPhysicianName": "Fakedoctorzq^Refzqx",
    "OperatorsName": "Fakeoperatorzq^Opzqx",
    "InstitutionName": "Fakehospitalzq",
    "StationName": "FAKESTATIONZQ",
}
SECRETS = tuple(
    part for name, text in PATIENT.items() if name not in {"PatientSex"} for part in text.split("^")
)

CLASSIC = {
    "CT": CTImageStorage,
    "MR": MRImageStorage,
    "PT": PositronEmissionTomographyImageStorage,
    "OT": SecondaryCaptureImageStorage,
}
ENHANCED = {"CT": EnhancedCTImageStorage, "MR": EnhancedMRImageStorage}
# Every syntax that `save` can write; those of the second group hold the same pixels, packed.
NATIVE = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian)
HTJ2K = (HTJ2KLossless, HTJ2KLosslessRPCL)
LOSSLESS = (
    DeflatedExplicitVRLittleEndian,
    RLELossless,
    JPEGLSLossless,
    JPEG2000Lossless,
    *JPEG,
    *HTJ2K,
)


def uid(*names: object) -> UID:
    """The same names give the same UID."""
    return generate_uid(entropy_srcs=["medseg-nca-test", *map(str, names)])


def affine(
    spacing: tuple[float, float, float] = (0.9, 0.9, 2.5),
    origin: tuple[float, float, float] = (-40.0, -30.0, 100.0),
    degrees: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> NDArray[np.float64]:
    """LPS affine: spacing along (column, row, plane); turned about x, then y, then z."""
    a, b, c = np.radians(degrees)
    about_x = [[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]]
    about_y = [[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]]
    about_z = [[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]]
    result = np.eye(4)
    result[:3, :3] = np.array(about_z) @ np.array(about_y) @ np.array(about_x) * spacing
    result[:3, 3] = origin
    return result


AXIAL = affine()
OBLIQUE = affine(spacing=(0.8, 1.1, 3.0), degrees=(25.0, -15.0, 10.0))


def pixels(
    shape: tuple[int, ...] = (5, 8, 6), *, dtype: str = "int16", seed: int = 0
) -> NDArray[Any]:
    """A ramp with noise, ``(planes, rows, columns[, 3])``: no two planes or axes look alike.

    JPEG 2000 can be written from 32 rows and columns on.
    """
    ramp = sum(
        np.linspace(0, weight, count).reshape([-1 if i == axis else 1 for i in range(len(shape))])
        for axis, (count, weight) in enumerate(zip(shape, (70, 50, 110, 20), strict=False))
    )
    noise = np.random.default_rng(seed).integers(0, 6, shape)
    if np.dtype(dtype).itemsize == 1:
        return (ramp + noise).astype(dtype)
    return (ramp * 8 + noise - (900 if np.dtype(dtype).kind == "i" else 0)).astype(dtype)


def classic(
    array: NDArray[Any],
    affine_lps: NDArray[np.float64] = AXIAL,
    *,
    modality: str = "CT",
    series: str = "a",
    study: str = "a",
    slope: float | Sequence[float] = 1.0,
    intercept: float | Sequence[float] = 0.0,
    **tags: Any,
) -> list[Dataset]:
    """One single-frame instance per plane, in plane order, InstanceNumber from 1.

    Args:
        array: ``(planes, rows, columns)`` stored values, or ``(planes, rows, columns, 3)`` uint8.
        affine_lps: see :func:`affine`.
        modality: a key of ``CLASSIC``.
        series: other names give another SeriesInstanceUID.
        study: other names give another StudyInstanceUID.
        slope: RescaleSlope, of all planes or of each.
        intercept: RescaleIntercept, of all planes or of each.
        **tags: set on every instance, by keyword; None deletes the tag.
    """
    slopes = np.broadcast_to(np.asarray(slope, float), len(array))
    intercepts = np.broadcast_to(np.asarray(intercept, float), len(array))
    result = []
    for index, plane in enumerate(array):
        dataset = _common(CLASSIC[modality], modality, series, study)
        dataset.SOPInstanceUID = uid(study, series, index)
        dataset.InstanceNumber = index + 1
        dataset.ImagePositionPatient = numbers(position(affine_lps, index))
        dataset.ImageOrientationPatient = numbers(orientation(affine_lps))
        dataset.PixelSpacing = numbers(np.linalg.norm(affine_lps[:3, [1, 0]], axis=0))
        dataset.SliceThickness = number(np.linalg.norm(affine_lps[:3, 2]))
        dataset.RescaleSlope = number(slopes[index])
        dataset.RescaleIntercept = number(intercepts[index])
        _classic_module(dataset, modality)
        set_pixels(dataset, plane[np.newaxis])
        result.append(_finish(dataset, tags))
    return result


def enhanced(
    array: NDArray[Any],
    affine_lps: NDArray[np.float64] = AXIAL,
    *,
    modality: str = "MR",
    series: str = "e",
    study: str = "a",
    slope: float | Sequence[float] = 1.0,
    intercept: float | Sequence[float] = 0.0,
    order: Sequence[int] | None = None,
    **tags: Any,
) -> Dataset:
    """One multi-frame instance with functional groups; arguments as :func:`classic`.

    ``order`` lists which plane each frame is. A slope for each plane goes to the per-frame groups,
    a single one to the shared group.
    """
    order = range(len(array)) if order is None else order
    dataset = _common(ENHANCED[modality], modality, series, study)
    dataset.SOPInstanceUID = uid(study, series, "instance")
    dataset.InstanceNumber = 1
    dataset.NumberOfFrames = len(array)
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    measures = Dataset()
    measures.PixelSpacing = numbers(np.linalg.norm(affine_lps[:3, [1, 0]], axis=0))
    measures.SliceThickness = number(np.linalg.norm(affine_lps[:3, 2]))
    plane_orientation = Dataset()
    plane_orientation.ImageOrientationPatient = numbers(orientation(affine_lps))
    shared = Dataset()
    shared.PixelMeasuresSequence = [measures]
    shared.PlaneOrientationSequence = [plane_orientation]
    each = np.ndim(slope) > 0 or np.ndim(intercept) > 0
    slopes = np.broadcast_to(np.asarray(slope, float), len(array))
    intercepts = np.broadcast_to(np.asarray(intercept, float), len(array))
    if not each:
        shared.PixelValueTransformationSequence = [_rescale(slopes[0], intercepts[0])]
    dataset.SharedFunctionalGroupsSequence = [shared]
    dataset.PerFrameFunctionalGroupsSequence = frames = []
    for index in order:
        group = _frame_group(affine_lps, index)
        if each:
            group.PixelValueTransformationSequence = [_rescale(slopes[index], intercepts[index])]
        frames.append(group)
    dataset.PerFrameFunctionalGroupsSequence = frames
    _dimensions(dataset)
    set_pixels(dataset, array[list(order)])
    return _finish(dataset, tags)


def write(
    folder: Path,
    datasets: Iterable[Dataset],
    syntax: str = ExplicitVRLittleEndian,
    *,
    name: str = "{:04d}.dcm",
) -> list[Path]:
    """Save the instances into ``folder``, ``name.format(index)`` each; their paths in order."""
    folder.mkdir(parents=True, exist_ok=True)
    return [
        save(dataset, folder / name.format(index), syntax) for index, dataset in enumerate(datasets)
    ]


def save(dataset: Dataset, path: Path, syntax: str = ExplicitVRLittleEndian) -> Path:
    """Save one instance, built with native pixels, in a syntax of ``NATIVE`` or ``LOSSLESS``."""
    syntax = UID(syntax)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    packed = syntax in LOSSLESS and syntax != DeflatedExplicitVRLittleEndian
    native = ExplicitVRLittleEndian if packed else syntax
    meta.TransferSyntaxUID = native
    copy = FileDataset(
        str(path),
        deepcopy(dataset),
        file_meta=meta,
        preamble=b"\0" * 128,
        is_implicit_VR=native == ImplicitVRLittleEndian,
        is_little_endian=native != ExplicitVRBigEndian,
    )
    if syntax == ExplicitVRBigEndian and copy.get("PixelData") and copy.BitsAllocated > 8:
        item = np.dtype(f"<u{copy.BitsAllocated // 8}")
        copy.PixelData = np.frombuffer(copy.PixelData, item).byteswap().tobytes()
    if syntax in (*JPEG, *HTJ2K):
        encapsulated = encapsulate(pack_frames(copy, syntax))
        copy["PixelData"] = DataElement("PixelData", "OB", encapsulated, is_undefined_length=True)
        meta.TransferSyntaxUID = syntax
    elif packed:
        plugin = "pydicom" if syntax == RLELossless else ""  # gdcm aborts on odd sizes
        copy.compress(syntax, encoding_plugin=plugin, generate_instance_uid=False)
    copy.save_as(path, enforce_file_format=True)
    return path


def position(affine_lps: NDArray[np.float64], index: float) -> NDArray[np.float64]:
    """ImagePositionPatient of a plane."""
    result: NDArray[np.float64] = affine_lps[:3, 3] + index * affine_lps[:3, 2]
    return result


def orientation(affine_lps: NDArray[np.float64]) -> NDArray[np.float64]:
    """ImageOrientationPatient: the direction along a row, then that along a column."""
    directions = affine_lps[:3, :2] / np.linalg.norm(affine_lps[:3, :2], axis=0)
    result: NDArray[np.float64] = directions.T.ravel()
    return result


def number(value: float) -> str:
    """At most 16 characters, as VR DS wants it."""
    for digits in range(16, 5, -1):
        text = f"{float(value):.{digits}g}"
        if len(text) <= 16:
            return text
    raise ValueError(value)


def numbers(values: Iterable[float]) -> list[str]:
    """Several of :func:`number`."""
    return [number(value) for value in values]


def _common(sop_class: str, modality: str, series: str, study: str) -> Dataset:
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.SOPClassUID = sop_class
    dataset.StudyInstanceUID = uid(study)
    dataset.SeriesInstanceUID = uid(study, series)
    dataset.FrameOfReferenceUID = uid(study, "frame of reference")
    dataset.PositionReferenceIndicator = ""
    dataset.Modality = modality
    dataset.Manufacturer = "Builder"
    dataset.ManufacturerModelName = "Synthetic"
    dataset.DeviceSerialNumber = "1"
    dataset.SoftwareVersions = "1"
    dataset.StudyDate = dataset.SeriesDate = dataset.ContentDate = dataset.AcquisitionDate = (
        "20200102"
    )
    dataset.StudyTime = dataset.SeriesTime = dataset.ContentTime = dataset.AcquisitionTime = (
        "101112"
    )
    dataset.StudyDescription = "Synthetic study"
    dataset.SeriesDescription = f"Synthetic {series}"
    dataset.SeriesNumber = 1
    dataset.AcquisitionNumber = 1
    dataset.BodyPartExamined = "ABDOMEN"
    dataset.PatientPosition = "HFS"
    for name, text in PATIENT.items():
        setattr(dataset, name, text)
    return dataset


def _classic_module(dataset: Dataset, modality: str) -> None:
    if modality == "CT":
        dataset.KVP = "120"
        dataset.RescaleType = "HU"
    elif modality == "MR":
        dataset.ScanningSequence = "GR"
        dataset.SequenceVariant = "NONE"
        dataset.ScanOptions = ""
        dataset.MRAcquisitionType = "2D"
        dataset.RepetitionTime = "500"
        dataset.EchoTime = "10"
        dataset.EchoTrainLength = "1"
        dataset.MagneticFieldStrength = "1.5"
    elif modality == "PT":
        dataset.Units = "BQML"
        dataset.SeriesType = ["STATIC", "IMAGE"]
        dataset.DecayCorrection = "START"
    elif modality == "OT":
        dataset.ConversionType = "WSD"


def _frame_group(affine_lps: NDArray[np.float64], index: int) -> Dataset:
    content = Dataset()
    content.StackID = "1"
    content.InStackPositionNumber = index + 1
    content.DimensionIndexValues = [1, index + 1]
    content.FrameReferenceDateTime = content.FrameAcquisitionDateTime = "20200102101112"
    content.FrameAcquisitionDuration = 1.0
    place = Dataset()
    place.ImagePositionPatient = numbers(position(affine_lps, index))
    group = Dataset()
    group.FrameContentSequence = [content]
    group.PlanePositionSequence = [place]
    return group


def _rescale(slope: float, intercept: float) -> Dataset:
    item = Dataset()
    item.RescaleIntercept = number(intercept)
    item.RescaleSlope = number(slope)
    item.RescaleType = "US"
    return item


def _dimensions(dataset: Dataset) -> None:
    organization = Dataset()
    organization.DimensionOrganizationUID = uid(dataset.SOPInstanceUID, "dimensions")
    dataset.DimensionOrganizationSequence = [organization]
    dataset.DimensionOrganizationType = "3D"
    dataset.DimensionIndexSequence = []
    for pointer in (0x00209056, 0x00209057):  # StackID, InStackPositionNumber
        item = Dataset()
        item.DimensionOrganizationUID = organization.DimensionOrganizationUID
        item.DimensionIndexPointer = pointer
        item.FunctionalGroupPointer = 0x00209111  # FrameContentSequence
        dataset.DimensionIndexSequence.append(item)


def _finish(dataset: Dataset, tags: dict[str, Any]) -> Dataset:
    for keyword, value in tags.items():
        if value is None:
            if keyword in dataset:
                del dataset[keyword]
        else:
            setattr(dataset, keyword, value)
    return dataset
