"""Images to place segmentations on: a volume that says which planes it came from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from medseg_nca.io.dicom.records import Plane, Source, Stack
from medseg_nca.io.volume import Volume

RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def image_of(series: Sequence[Dataset], affine_lps: NDArray[np.float64]) -> Volume:
    """The volume of a classic series, as the reader lays it out: rows from the last to the first.

    Args:
        series: instances in the order of their planes.
        affine_lps: (column, row, plane) to LPS mm, right-handed.
    """
    rows, columns = series[0].Rows, series[0].Columns
    flip = np.eye(4)
    flip[1, 1], flip[1, 3] = -1, rows - 1
    planes = tuple(
        Plane(
            path=Path(f"{number}.dcm"),
            frame=None,
            sop_instance_uid=instance.SOPInstanceUID,
            position=tuple(float(v) for v in instance.ImagePositionPatient),
            row=tuple(float(v) for v in instance.ImageOrientationPatient[:3]),
            column=tuple(float(v) for v in instance.ImageOrientationPatient[3:]),
            spacing=tuple(float(v) for v in instance.PixelSpacing),
            shape=(rows, columns),
        )
        for number, instance in enumerate(series)
    )
    shape = (columns, rows, len(series))
    affine = RAS @ affine_lps @ flip
    source = Source(
        Stack("", planes, shape, affine),
        series[0].SeriesInstanceUID,
        series[0].StudyInstanceUID,
        series[0].get("FrameOfReferenceUID"),
        series[0].Modality,
    )
    array = np.zeros((1, *shape), np.int16)
    return Volume(array, affine, tuple(plane.path for plane in planes), {"dicom": source})


def on_array(frames: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """``(planes, rows, columns)`` in the array order of :func:`image_of`."""
    return frames.transpose(2, 1, 0)[:, ::-1]


def points_lps(image: Volume, index: Sequence[Sequence[float]]) -> NDArray[np.float64]:
    """Where voxel coordinates ``(n, 3)`` of an image lie, LPS mm."""
    given = np.asarray(index, float)
    return (given @ image.affine[:3, :3].T + image.affine[:3, 3]) * (-1, -1, 1)
