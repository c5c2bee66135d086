"""Islands: what of a label lies apart from its largest part.

Parts hang together by faces, edges and corners. Neither MONAI's ``KeepLargestConnectedComponent``
nor skimage's ``label`` with ``bincount`` is used: they hold several numbers of eight bytes a voxel
at once, and do not know of labels that lie inside others.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg_nca.config.labels import MERGED, Label, LabelTable

# What :func:`remove_islands` holds besides the label map: two masks, and the number of each
# voxel's part.
BYTES_A_VOXEL = 6
# Voxels that are counted at once: numpy copies what it counts to eight bytes each.
_COUNTED = 1 << 20

BoolArray = NDArray[np.bool_]


def remove_islands(label_map: NDArray[Any], names: Collection[str], table: LabelTable) -> int:
    """Keep only the largest part of some labels, in place.

    What lies apart becomes background; of a region inside another one (multi-label tables) it
    becomes what is around it: an island of the tumour's core is still tumour. Of parts of one size
    the first in array order is kept.

    Args:
        label_map: integers ``(x, y)`` or ``(x, y, z)`` with the numbers that predictions carry.
        names: of labels; "merged" for all labels as one, which then comes first.
        table: of the labels.

    Returns:
        How many voxels were changed.
    """
    changed = 0
    if MERGED in names:
        changed += _remove(label_map, label_map != 0, 0)
    # Outer labels come first: inner voxels that go with an outer island need no second look.
    chosen = [label for label in table.labels if label.name in names]
    chosen.sort(key=lambda label: -len(table.predicted_values(label)))
    for one in chosen:
        mask = np.isin(label_map, sorted(table.predicted_values(one)))
        changed += _remove(label_map, mask, _around(one, table))
    return changed


def share_apart(mask: BoolArray) -> float:
    """The share of a mask's voxels that lies outside of its largest part; 0 for an empty one."""
    found = _islands(mask)
    return 0.0 if found is None else np.count_nonzero(found[1]) / np.count_nonzero(mask)


def _remove(label_map: NDArray[Any], mask: BoolArray, fill: int) -> int:
    found = _islands(mask)
    if found is None:
        return 0
    box, lost = found
    label_map[box][lost] = fill
    return int(np.count_nonzero(lost))


def _islands(mask: BoolArray) -> tuple[tuple[slice, ...], BoolArray] | None:
    """The box around a mask, and in it what lies apart; None if nothing does."""
    # The import takes time, which a prediction without `largest` need not spend.
    from scipy.ndimage import find_objects, generate_binary_structure
    from scipy.ndimage import label as number_parts

    boxes = find_objects(mask.view(np.uint8))
    if not boxes:
        return None
    box: tuple[slice, ...] = boxes[0]
    inside = mask[box]
    parts, count = number_parts(inside, structure=generate_binary_structure(mask.ndim, mask.ndim))
    if count < 2:
        return None
    lost: BoolArray = parts != _sizes(parts, count).argmax()
    lost &= inside
    return box, lost


def _sizes(parts: NDArray[Any], count: int) -> NDArray[np.int64]:
    """Voxels of each part, by its number; 0 for the background, which has number 0."""
    flat, sizes = parts.reshape(-1), np.zeros(count + 1, np.int64)
    for start in range(0, flat.size, _COUNTED):
        sizes += np.bincount(flat[start : start + _COUNTED], minlength=count + 1)
    sizes[0] = 0
    return sizes


def _around(one: Label, table: LabelTable) -> int:
    """What is written around a label: the smallest region that it lies in, else background."""
    own = table.predicted_values(one)
    regions = [r for r in table.labels if own < table.predicted_values(r)]
    regions.sort(key=lambda region: len(table.predicted_values(region)))
    return regions[0].written if regions else 0
