"""Small results to write: DICOM series read by the package, with labels in patches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from medseg_nca.config import Label, LabelTable
from medseg_nca.config.labels import Code
from medseg_nca.io.dicom.quiet import quiet
from medseg_nca.io.dicom.read import read_dicom
from medseg_nca.io.segmentation import Algorithm, Segmentation
from medseg_nca.io.volume import Volume
from tests.io.dicom import build

HIPPOCAMPUS = Code(scheme="SCT", value="5366008", meaning="Hippocampus")
ANTERIOR = Code(scheme="SCT", value="255549009", meaning="Anterior")
POSTERIOR = Code(scheme="SCT", value="255551008", meaning="Posterior")
TABLE = LabelTable(
    labels=(
        Label(name="Anterior", values=(1,), code=HIPPOCAMPUS, modifier=ANTERIOR),
        Label(name="Posterior", values=(2,), code=HIPPOCAMPUS, modifier=POSTERIOR),
        Label(name="odd blob", values=(7,)),
    )
)
REGIONS = LabelTable(
    labels=(
        Label(name="whole", values=(1, 2, 7)),
        Label(name="core", values=(2, 7)),
        Label(name="dot", values=(7,)),
    ),
    multi_label=True,
)
ALGORITHM = Algorithm("hippocampus", "3", "0.1.0")
AFFINES = {
    "axial": build.AXIAL,
    "oblique": build.OBLIQUE,
    # Rows run down along the feet, columns to the back: a sagittal series, a little turned.
    "sagittal": build.affine(spacing=(0.9, 1.2, 2.0), degrees=(88.0, 3.0, -92.0)),
}
KINDS = ("axial", "oblique", "sagittal")


def series(folder: Path, kind: str = "axial", *, enhanced: bool = False, **tags: Any) -> Volume:
    """A series of 7 planes, 21 rows, 18 columns, written and read again.

    Args:
        folder: for the files.
        kind: a key of ``AFFINES``.
        enhanced: as one multi-frame file.
        **tags: set on every instance; None deletes a tag.
    """
    pixels, affine = build.pixels((7, 21, 18)), AFFINES[kind]
    with quiet():  # tags may be wrong on purpose
        if enhanced:
            build.write(folder, [build.enhanced(pixels, affine, **tags)])
        else:
            build.write(folder, build.classic(pixels, affine, modality="MR", **tags))
    return read_dicom([folder])


def blobs(shape: tuple[int, ...], seed: int = 0) -> NDArray[np.uint8]:
    """Labels 1 and 2 in patches with holes and lone voxels, 7 in one corner voxel."""
    noise = gaussian_filter(np.random.default_rng(seed).normal(size=shape), 1.2)
    labels = np.zeros(shape, np.uint8)
    labels[noise > 0.08], labels[noise < -0.08] = 1, 2
    labels[(0,) * len(shape)] = 7
    return labels


def result(image: Volume, labels: NDArray[Any] | None = None, **changes: Any) -> Segmentation:
    """A finished segmentation of an image; ``changes`` are fields of it."""
    array = blobs(image.shape) if labels is None else labels
    fields = {
        "label_map": Volume(array[np.newaxis], image.affine),
        "labels": TABLE,
        "image": image,
        "algorithm": ALGORITHM,
        **changes,
    }
    return Segmentation(**fields)


def empty(image: Volume) -> Segmentation:
    """A result in which nothing was found."""
    return result(image, np.zeros(image.shape, np.uint8))


def probabilities(segmentation: Segmentation) -> Volume:
    """Background and the three labels of ``TABLE``, one certain and others less so."""
    labels = segmentation.label_map.array[0]
    ones = [labels == value for value in (0, 1, 2, 7)]
    certainty = np.linspace(0.4, 1.0, labels.size).reshape(labels.shape)
    rest = (1 - certainty) / 3
    array = np.stack([np.where(one, certainty, rest) for one in ones]).astype(np.float32)
    return segmentation.label_map.with_array(array)


def in_space(volume: Volume, mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Where the voxels of a mask are: ``(n, 3)`` LPS mm, sorted; no matter how the array lies."""
    index = np.argwhere(mask.reshape((*mask.shape, 1)[:3]))
    points = index @ volume.affine[:3, :3].T + volume.affine[:3, 3]
    points = np.round(points * (-1, -1, 1), 3) + 0.0
    return points[np.lexsort(points.T)]
