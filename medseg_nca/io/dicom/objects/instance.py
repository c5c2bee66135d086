"""The beginning of every DICOM instance that is built without highdicom."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from medseg_nca.io.dicom.objects.identity import ResultUids
from medseg_nca.io.dicom.objects.source import SourceImages, equipment, series_description
from medseg_nca.io.dicom.objects.values import UTF_8
from medseg_nca.io.segmentation import Segmentation

if TYPE_CHECKING:
    from pydicom.dataset import Dataset


def new_instance(
    source: SourceImages, segmentation: Segmentation, class_uid: str, kind: str
) -> Dataset:
    """Return an instance of a new series in the study of the source.

    It has the modules patient, general study, general series, general equipment and SOP common
    (PS3.3 C.7.1.1, C.7.2.1, C.7.3.1, C.7.5.1, C.12.1); Modality is left to the caller.
    """
    from pydicom.dataset import Dataset

    algorithm, uids = segmentation.algorithm, ResultUids(segmentation, source, kind)
    dataset = Dataset()
    dataset.update(source.study)
    now = datetime.datetime.now()
    dataset.SpecificCharacterSet = UTF_8
    dataset.SOPClassUID, dataset.SOPInstanceUID = class_uid, uids("instance")
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = source.source.study_uid, uids("series")
    dataset.SeriesNumber, dataset.InstanceNumber = source.series_number(kind), 1
    dataset.SeriesDescription = series_description(_TITLES[kind], segmentation)
    dataset.SeriesDate = dataset.InstanceCreationDate = now.strftime("%Y%m%d")
    dataset.SeriesTime = dataset.InstanceCreationTime = now.strftime("%H%M%S")
    made_by = equipment(algorithm)
    dataset.Manufacturer = made_by["manufacturer"]
    dataset.ManufacturerModelName = made_by["manufacturer_model_name"]
    dataset.DeviceSerialNumber = made_by["device_serial_number"]
    dataset.SoftwareVersions = list(made_by["software_versions"])
    return dataset


_TITLES = {"rtstruct": "Structures", "sc": "Overlay"}


def save(dataset: Dataset, path: Path, *, implicit: bool = False) -> None:
    """Write a data set as a file in Explicit or Implicit VR Little Endian (PS3.10 7)."""
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
    file = FileDataset(str(path), dataset, file_meta=meta, preamble=b"\0" * 128)
    file.save_as(path, implicit_vr=implicit, little_endian=True, enforce_file_format=True)
