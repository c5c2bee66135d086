"""The labels of a result as masks: what each DICOM segment, region of interest or volume covers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg_nca.config.labels import Label
from medseg_nca.errors import OutputError
from medseg_nca.io.dicom.objects.values import text
from medseg_nca.io.grid import grid_difference
from medseg_nca.io.segmentation import Segmentation


def display_name(label: Label, number: int) -> str:
    """Return the name of a label as one value of VR LO; ``number`` counts from 1."""
    return text(label.name) or f"label {number}"


def label_mask(segmentation: Segmentation, label: Label) -> NDArray[np.bool_]:
    """Return where a label is, ``(x, y, z)`` or ``(x, y)``.

    A region of a multi-label table covers the labels inside it too.
    """
    values = sorted(segmentation.labels.predicted_values(label))
    mask: NDArray[np.bool_] = np.isin(segmentation.label_map.array[0], values)
    return mask


def label_probabilities(segmentation: Segmentation) -> NDArray[Any]:
    """Return the probability of each label, ``(K, x, y, z)``, without the background.

    Raises:
        OutputError: if there are none, or they are not those of the label table.
    """
    table, volume = segmentation.labels, segmentation.probabilities
    if volume is None:
        raise OutputError(
            "A fractional segmentation holds probabilities, and this result has none.",
            hint="Predict with prediction.probabilities=true, or write a binary one.",
        )
    array = volume.array
    if array.shape[0] == table.channels and not table.multi_label:
        array = array[1:]
    if array.shape[0] != len(table.labels) or array.shape[1:] != segmentation.label_map.shape:
        raise OutputError(
            f"The probabilities have shape {volume.array.shape}; {table.channels} channels on the "
            f"grid {segmentation.label_map.shape} were expected."
        )
    return np.clip(array.astype(np.float32), 0.0, 1.0)


def check_segmentation(segmentation: Segmentation) -> None:
    """Check that a label map fits its image and its label table.

    Raises:
        OutputError: if the grids differ, the labels are several channels or no integers, or a
            number has no label.
    """
    label_map = segmentation.label_map
    difference = grid_difference(segmentation.image, label_map)
    if difference:
        raise OutputError(f"The label map lies on another grid than its image: {difference}.")
    if label_map.array.shape[0] != 1 or label_map.array.dtype.kind not in "iub":
        raise OutputError(
            f"A label map has one channel of integers, not {label_map.array.shape[0]} of "
            f"{label_map.array.dtype}."
        )
    strange = set(np.unique(label_map.array).tolist()) - segmentation.labels.known_values
    strange -= {label.written for label in segmentation.labels.labels}
    if strange:
        raise OutputError(
            f"The label map holds {min(strange)}, which the label table does not explain "
            f"({', '.join(segmentation.labels.names)})."
        )
