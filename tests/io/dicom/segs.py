"""DICOM SEG objects for tests: made with highdicom, saved, and refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pytest
from highdicom.sr.coding import CodedConcept
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from medseg_nca.io.dicom.annotations.labels import Segments
from medseg_nca.io.dicom.annotations.seg import read_seg
from medseg_nca.io.dicom.problems import DicomError
from medseg_nca.io.volume import Volume
from tests.io.dicom.build import AXIAL, PATIENT, classic, pixels, uid
from tests.io.dicom.on_image import image_of

ORGANS = (("SCT", "10200004", "Liver"), ("SCT", "78961009", "Spleen"), ("99X", "1", "Thing"))
SHAPE = (5, 9, 7)  # planes, rows, columns: no frame of bits begins with a byte


def concept(scheme: str, value: str, meaning: str) -> CodedConcept:
    return CodedConcept(value=value, scheme_designator=scheme, meaning=meaning)


def seg(sources: list[Dataset], masks: NDArray[Any], kind: str = "BINARY", **more: Any) -> Dataset:
    """``masks`` is (planes, rows, columns, segments); a label map without the last axis."""
    count = masks.shape[-1] if masks.ndim == 4 else int(masks.max())
    algorithm = hd.AlgorithmIdentificationSequence(
        name="n", version="1", family=concept("DCM", "123109", "Manual Processing")
    )
    descriptions = [
        hd.seg.SegmentDescription(
            segment_number=number,
            segment_label=f"organ {number}",
            segmented_property_category=concept("SCT", "123037004", "Anatomical Structure"),
            segmented_property_type=concept(*ORGANS[(number - 1) % len(ORGANS)]),
            algorithm_type="SEMIAUTOMATIC",
            algorithm_identification=algorithm,
        )
        for number in range(1, count + 1)
    ]
    return hd.seg.Segmentation(
        source_images=sources,
        pixel_array=masks,
        segmentation_type=kind,
        segment_descriptions=descriptions,
        series_instance_uid=uid("seg series"),
        series_number=9,
        sop_instance_uid=uid("seg"),
        instance_number=1,
        manufacturer="m",
        manufacturer_model_name="m",
        software_versions="1",
        device_serial_number="1",
        **more,
    )


def save(dataset: Dataset, folder: Path) -> Path:
    path = folder / "seg.dcm"
    dataset.save_as(path, enforce_file_format=True)
    return path


def series_and_image(
    shape: tuple[int, int, int] = SHAPE, affine_lps: NDArray[np.float64] = AXIAL, **tags: Any
) -> tuple[list[Dataset], Volume]:
    series = classic(pixels(shape), affine_lps, **tags)
    return series, image_of(series, affine_lps)


def blobs(shape: tuple[int, int, int] = SHAPE, count: int = 3, seed: int = 1) -> NDArray[np.uint8]:
    """Overlapping masks without any symmetry; each is empty on some planes."""
    masks = np.random.default_rng(seed).random((*shape, count)) < 0.4
    for number in range(count):
        masks[number % shape[0], :, :, number] = False
    return masks.astype(np.uint8)


def kinds(result: Segments) -> list[str]:
    return [note.kind for note in result.notes]


def refused(path: Path, image: Volume) -> DicomError:
    with pytest.raises(DicomError) as caught:
        read_seg(path, image)
    assert str(path) in str(caught.value)
    for secret in PATIENT.values():
        assert secret not in str(caught.value) or secret == "F"
    return caught.value
