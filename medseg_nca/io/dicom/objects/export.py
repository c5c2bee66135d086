"""Turn a volume of any format into a classic DICOM series, for archives and viewers.

The patient is synthetic: a NIfTI file does not say whose image it is. Rows and columns run as
pictures are shown (towards left, posterior or feet) and slices along their normal, so the array may
come back flipped, with the affine that says so; every voxel keeps its place and its value.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from medseg_nca import __version__
from medseg_nca.errors import OutputError
from medseg_nca.io.atomic import atomic_folder
from medseg_nca.io.dicom.objects.frames import FrameGrid, own_grid
from medseg_nca.io.dicom.objects.instance import save
from medseg_nca.io.dicom.objects.source import MANUFACTURER, MODEL
from medseg_nca.io.dicom.objects.values import (
    SHORT,
    UTF_8,
    exact_decimals,
    new_uid,
    quiet_writing,
    text,
)
from medseg_nca.io.volume import Volume

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

MODALITIES = ("MR", "CT")
_STEPS = 65535


def write_series(
    volume: Volume,
    folder: Path,
    *,
    modality: Literal["MR", "CT"] = "MR",
    patient_id: str = "SYNTHETIC",
    description: str = "",
    seed: str | None = None,
) -> tuple[Path, ...]:
    """Write a volume as one DICOM file per slice.

    Whole numbers within 16 bits are stored as they are. Other values are stored in 65536 steps
    between minimum and maximum, with RescaleSlope and RescaleIntercept.

    Args:
        volume: ``(1, x, y, z)`` or ``(1, x, y)``.
        folder: is made; it must not exist, or be empty.
        modality: MR Image Storage or CT Image Storage (PS3.3 A.4, A.3).
        patient_id: of the synthetic patient.
        description: SeriesDescription.
        seed: the same text gives the same UIDs; without it they are new.

    Returns:
        The files in the order of the slices.

    Raises:
        OutputError: if the volume has several channels or skewed axes, holds NaN or infinity, or
            the folder is in use.
    """
    if modality not in MODALITIES:
        raise OutputError(f"modality is {modality!r}; it can be {' or '.join(MODALITIES)}.")
    if volume.array.shape[0] != 1:
        raise OutputError(
            f"A DICOM series of {modality} has one channel, not {volume.array.shape[0]}.",
            hint="Write each channel as a series of its own.",
        )
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise OutputError(f"{folder}: is there already.", hint="Name a new or an empty folder.")
    grid = own_grid(volume)
    stored = _stored(volume.array[0])
    frames = grid.frames(stored.array)
    uids = _Uids.make(seed)
    names = [f"{number:04d}.dcm" for number in range(1, len(frames) + 1)]
    now = datetime.datetime.now()  # one series has one date and time
    with quiet_writing(), atomic_folder(folder) as temporary:
        for index, (name, frame) in enumerate(zip(names, frames, strict=True)):
            dataset = _common(uids, index, text(patient_id) or "SYNTHETIC", text(description), now)
            _modality(dataset, modality, stored)
            _plane(dataset, grid, index)
            _pixels(dataset, frame, stored)
            save(dataset, temporary / name)
    return tuple(folder / name for name in names)


@dataclass(frozen=True)
class _Stored:
    """Whole numbers of 16 bits, and how they become the values: ``slope * stored + intercept``."""

    array: NDArray[Any]
    slope: str
    intercept: str
    window: tuple[float, float]

    @property
    def scaled(self) -> bool:
        return self.slope != "1" or self.intercept != "0"


def _stored(array: NDArray[Any]) -> _Stored:
    if not np.isfinite(array).all():
        raise OutputError("The volume holds NaN or infinity, which DICOM cannot store.")
    low, high = float(array.min()), float(array.max())
    window = ((low + high) / 2, max(high - low, 1.0))
    whole = array.dtype.kind in "iub" or bool((np.rint(array) == array).all())
    for kind in (np.uint16, np.int16):
        if whole and np.iinfo(kind).min <= low and high <= np.iinfo(kind).max:
            return _Stored(array.astype(kind), "1", "0", window)
    slope, intercept = exact_decimals([(high - low) / _STEPS or 1.0, low])
    steps = (array.astype(np.float64) - float(intercept)) / float(slope)
    return _Stored(np.clip(np.rint(steps), 0, _STEPS).astype(np.uint16), slope, intercept, window)


@dataclass(frozen=True)
class _Uids:
    study: str
    series: str
    frame_of_reference: str
    seed: tuple[str, ...]

    @classmethod
    def make(cls, seed: str | None) -> _Uids:
        if seed is None:
            return cls(new_uid(), new_uid(), new_uid(), ())
        names = ("study", "series", "frame of reference")
        study, series, frame = (new_uid(seed, name) for name in names)
        return cls(study, series, frame, (seed,))

    def instance(self, index: int) -> str:
        return new_uid(*self.seed, "instance", index) if self.seed else new_uid()


def _common(
    uids: _Uids, index: int, patient_id: str, description: str, now: datetime.datetime
) -> Dataset:
    """Patient, study, series, equipment and SOP common (PS3.3 C.7.1.1 to C.7.5.1, C.12.1)."""
    from pydicom.dataset import Dataset

    date, time = now.strftime("%Y%m%d"), now.strftime("%H%M%S")
    dataset = Dataset()
    dataset.SpecificCharacterSet = UTF_8
    dataset.PatientName, dataset.PatientID = "Synthetic^Patient", patient_id
    dataset.PatientBirthDate = dataset.PatientSex = ""
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = uids.study, uids.series
    dataset.SOPInstanceUID = uids.instance(index)
    dataset.FrameOfReferenceUID, dataset.PositionReferenceIndicator = uids.frame_of_reference, ""
    dataset.StudyDate = dataset.SeriesDate = dataset.ContentDate = date
    dataset.StudyTime = dataset.SeriesTime = dataset.ContentTime = time
    dataset.AccessionNumber = dataset.ReferringPhysicianName = ""
    dataset.StudyID = "1"
    dataset.SeriesNumber, dataset.InstanceNumber = 1, index + 1
    dataset.AcquisitionNumber = ""
    if description:
        dataset.SeriesDescription = description
    dataset.Laterality, dataset.PatientPosition = "", "HFS"
    dataset.Manufacturer, dataset.ManufacturerModelName = MANUFACTURER, MODEL
    dataset.SoftwareVersions = text(__version__, SHORT)
    dataset.BurnedInAnnotation = "NO"
    return dataset


def _modality(dataset: Dataset, modality: str, stored: _Stored) -> None:
    """What the MR and CT image modules ask for; how it was acquired is not known."""
    from pydicom.uid import CTImageStorage, MRImageStorage

    dataset.Modality = modality
    if modality == "CT":
        dataset.SOPClassUID = CTImageStorage
        dataset.ImageType = ["DERIVED", "SECONDARY", "AXIAL"]
        dataset.KVP = ""
        dataset.RescaleType = "HU"
    else:
        dataset.SOPClassUID = MRImageStorage
        dataset.ImageType = ["DERIVED", "SECONDARY", "OTHER"]
        dataset.ScanningSequence, dataset.SequenceVariant = "RM", "NONE"
        dataset.ScanOptions = dataset.MRAcquisitionType = ""
        dataset.RepetitionTime = dataset.EchoTime = dataset.EchoTrainLength = ""
    if modality == "CT" or stored.scaled:
        dataset.RescaleSlope, dataset.RescaleIntercept = stored.slope, stored.intercept
    dataset.WindowCenter, dataset.WindowWidth = exact_decimals(stored.window)


def _plane(dataset: Dataset, grid: FrameGrid, index: int) -> None:
    """PS3.3 C.7.6.2."""
    dataset.ImageOrientationPatient = exact_decimals(grid.orientation)
    dataset.ImagePositionPatient = exact_decimals(grid.positions[index].tolist())
    dataset.PixelSpacing = exact_decimals(grid.spacing)
    dataset.SliceThickness = exact_decimals([grid.thickness])[0]
    if dataset.Modality == "MR":
        dataset.SpacingBetweenSlices = dataset.SliceThickness


def _pixels(dataset: Dataset, frame: NDArray[Any], stored: _Stored) -> None:
    """PS3.3 C.7.6.3."""
    dataset.Rows, dataset.Columns = frame.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit, dataset.PixelRepresentation = 15, int(frame.dtype.kind == "i")
    dataset.PixelData = frame.astype(frame.dtype.newbyteorder("<")).tobytes()
    dataset["PixelData"].VR = "OW"
