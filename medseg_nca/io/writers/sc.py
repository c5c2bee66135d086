"""Secondary capture (PS3.3 A.8.1): a colour contact sheet that every viewer can show.

One RGB instance with up to twelve planes, the outlines of the labels, a legend and the note that
it is for research. The pixels hold no patient data of ours; BurnedInAnnotation is taken over from
the source, NO for modalities that burn nothing in, and left out where it is not known.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medseg_nca.io.dicom.objects.codes import colour
from medseg_nca.io.dicom.objects.instance import new_instance, save
from medseg_nca.io.dicom.objects.overlay import edges, enlarged, grey, key_planes, sheet
from medseg_nca.io.dicom.objects.segments import check_segmentation, display_name, label_mask
from medseg_nca.io.dicom.objects.source import (
    RESEARCH_USE,
    SourceImages,
    reference_item,
    signature,
    source_images,
)
from medseg_nca.io.dicom.objects.values import quiet_writing, text
from medseg_nca.io.segmentation import Segmentation
from medseg_nca.io.writers.base import ResultWriter

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

# Modalities whose scanners write no text into the pixels.
_CLEAN = frozenset({"CT", "MR", "PT", "NM"})


def write_sc(segmentation: Segmentation, path: Path) -> None:
    """Write a secondary capture.

    Raises:
        OutputError: if the image did not come from DICOM.
    """
    check_segmentation(segmentation)
    source = source_images(segmentation.image, kind="sc")
    picture, planes = _picture(segmentation, source)
    with quiet_writing():
        save(_build(segmentation, source, picture, planes), path)


def _picture(
    segmentation: Segmentation, source: SourceImages
) -> tuple[NDArray[np.uint8], list[int]]:
    grid, labels = source.grid, segmentation.labels.labels
    masks = [grid.frames(label_mask(segmentation, label)) for label in labels]
    planes = key_planes(np.any([mask.any(axis=(1, 2)) for mask in masks], axis=0))
    shown = grey(_channels(segmentation, source)[planes])
    pictures = []
    for index, plane in enumerate(planes):
        frame = enlarged(shown[index], grid.spacing)
        picture = np.stack([frame] * 3, axis=-1) if frame.ndim == 2 else frame.copy()
        for number, mask in enumerate(masks):
            picture[edges(enlarged(mask[plane], grid.spacing))] = colour(number)
        pictures.append(picture)
    legend = [(display_name(label, n), colour(n - 1)) for n, label in enumerate(labels, 1)]
    note = f"{signature(segmentation.algorithm)}. {RESEARCH_USE}"
    return sheet(pictures, legend, note), planes


def _channels(segmentation: Segmentation, source: SourceImages) -> NDArray[Any]:
    """The first channel, or all three of a colour picture, as frames."""
    array = segmentation.image.array
    if array.shape[0] == 3 and array.dtype == np.uint8:
        return np.stack([source.grid.frames(channel) for channel in array], axis=-1)
    return source.grid.frames(array[0])


def _build(
    segmentation: Segmentation, source: SourceImages, picture: NDArray[np.uint8], planes: list[int]
) -> Dataset:
    from pydicom.uid import SecondaryCaptureImageStorage

    dataset = new_instance(source, segmentation, SecondaryCaptureImageStorage, "sc")
    dataset.Modality = "OT"
    dataset.ConversionType = "WSD"
    dataset.SecondaryCaptureDeviceManufacturer = dataset.Manufacturer
    dataset.SecondaryCaptureDeviceManufacturerModelName = dataset.ManufacturerModelName
    dataset.SecondaryCaptureDeviceSoftwareVersions = dataset.SoftwareVersions
    dataset.DateOfSecondaryCapture = dataset.InstanceCreationDate
    dataset.TimeOfSecondaryCapture = dataset.InstanceCreationTime
    dataset.ImageType = ["DERIVED", "SECONDARY"]
    dataset.ImageComments = RESEARCH_USE
    dataset.DerivationDescription = text(f"Outlines by {signature(segmentation.algorithm)}")
    dataset.PatientOrientation = ""
    dataset.Laterality = ""  # of the body part, which is not known
    burned = str(source.header.get("BurnedInAnnotation", ""))
    if burned not in ("YES", "NO"):
        burned = "NO" if source.source.modality in _CLEAN else ""
    if burned:
        dataset.BurnedInAnnotation = burned
    shown = source.references
    if source.grid.on_source:
        shown = tuple(source.references[plane] for plane in planes)
    dataset.SourceImageSequence = [reference_item(reference) for reference in shown]
    dataset.Rows, dataset.Columns = picture.shape[:2]
    dataset.SamplesPerPixel, dataset.PlanarConfiguration = 3, 0
    dataset.PhotometricInterpretation = "RGB"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8, 8, 7
    dataset.PixelRepresentation = 0
    data = np.ascontiguousarray(picture).tobytes()
    dataset.PixelData = data + b"\0" * (len(data) % 2)
    dataset["PixelData"].VR = "OB"
    return dataset


WRITER = ResultWriter(".sc.dcm", write_sc)
