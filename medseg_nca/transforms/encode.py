"""Between the numbers in label maps and the channels of models."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg_nca.config import LabelTable
from medseg_nca.errors import ConfigError, ImageError

# A table of this length is looked up instead of searched; label numbers are small.
_LOOKUP = 1 << 16
_SHOWN = 10
# Prepared label maps are uint8, 0 is the background.
_MOST = 255


def encode_labels(array: NDArray[Any], table: LabelTable) -> NDArray[np.uint8]:
    """Turn a source label map into a training target.

    Args:
        array: integers, ``(*S)``.
        table: what they mean.

    Returns:
        Exclusive labels: ``(1, *S)``, 0 for background and ``i + 1`` for ``table.labels[i]``.
        Multi-label: ``(L, *S)``, one binary channel per label.

    Raises:
        ImageError: if a number is not in the table; the numbers are named.
        ConfigError: if there are more exclusive labels than a prepared label map can hold.
    """
    check_values(array, table)
    if len(table.labels) > _MOST and not table.multi_label:
        raise ConfigError(
            f"data.labels: {len(table.labels)} labels, but {_MOST} are the most.",
            hint="Merge labels: one label may have several values.",
        )
    if table.multi_label:
        return np.stack([_lookup(array, dict.fromkeys(label.values, 1)) for label in table.labels])
    codes = {v: i for i, label in enumerate(table.labels, start=1) for v in label.values}
    return _lookup(array, codes)[None]


def decode_channels(probabilities: NDArray[Any], table: LabelTable) -> NDArray[Any]:
    """Turn probabilities ``(K, *S)`` into a label map ``(*S)`` with the numbers that are written.

    Exclusive labels: the most probable channel. Multi-label: every channel of at least 0.5, later
    labels over earlier ones. The type is the smallest of uint8, int16, uint16 and int32 that holds
    the table's numbers.
    """
    written = np.array([0, *(label.written for label in table.labels)], written_type(table))
    if not table.multi_label:
        return np.asarray(written[probabilities.argmax(0)])
    label_map = np.zeros(probabilities.shape[1:], written.dtype)
    for channel, value in zip(probabilities, written[1:], strict=True):
        label_map[channel >= 0.5] = value
    return label_map


def weigh_background(probabilities: NDArray[Any]) -> None:
    """Replace the background's probability by its share against the likeliest label.

    In ``(K, *S)``. Whether a voxel is foreground is then known from this channel alone, also
    between voxels: where two labels meet, interpolation leaves less to each of them, but nothing to
    the background.
    """
    background = probabilities[0]
    both = probabilities[1:].max(0) + background
    np.divide(background, both, out=background, where=both > 0)


def decode_weighed(values: NDArray[Any], table: LabelTable) -> NDArray[Any]:
    """As :func:`decode_channels` for exclusive labels, after :func:`weigh_background`."""
    written = np.array([0, *(label.written for label in table.labels)], written_type(table))
    found = values[1:].argmax(0) + 1
    found[values[0] >= 0.5] = 0
    return np.asarray(written[found])


def written_type(table: LabelTable) -> np.dtype[Any]:
    """The type of label maps with the numbers that are written."""
    return np.dtype(_smallest(np.array([0, *(label.written for label in table.labels)])))


def check_values(array: NDArray[Any], table: LabelTable) -> None:
    """Refuse a label map with numbers that the table does not know.

    Raises:
        ImageError: the numbers are named.
    """
    strange = sorted(set(present_values(array)) - table.known_values)
    if strange:
        shown = ", ".join(map(str, strange[:_SHOWN])) + (", ..." if len(strange) > _SHOWN else "")
        known = ", ".join(map(str, sorted(table.known_values)))
        raise ImageError(
            f"label values {shown} are not in the label table (known: {known}).",
            hint="Mend the label map, or add the values to data.labels.",
        )


def present_values(array: NDArray[Any]) -> tuple[int, ...]:
    """The different numbers of a label map, sorted."""
    return tuple(value_counts(array))


def value_counts(array: NDArray[Any]) -> dict[int, int]:
    """How many voxels each number of a label map has, by number."""
    flat = array.ravel()
    if flat.size and flat.min() >= 0 and flat.max() < _LOOKUP:
        counts = np.bincount(flat)
        return {int(v): int(counts[v]) for v in np.flatnonzero(counts)}
    values, counts = np.unique(flat, return_counts=True)
    return {int(v): int(n) for v, n in zip(values, counts, strict=True)}


def _lookup(array: NDArray[Any], codes: dict[int, int]) -> NDArray[np.uint8]:
    """Replace every number by its code, and what has none by 0."""
    keys = np.array(sorted(codes))
    if keys[0] >= 0 and keys[-1] < _LOOKUP and array.min(initial=0) >= 0:
        table = np.zeros(int(max(keys[-1], array.max(initial=0))) + 1, np.uint8)
        table[keys] = [codes[int(k)] for k in keys]
        return np.asarray(table[array])
    result = np.zeros(array.shape, np.uint8)
    for value, code in codes.items():
        result[array == value] = code
    return result


def _smallest(values: NDArray[Any]) -> type[np.integer[Any]]:
    for kind in (np.uint8, np.int16, np.uint16):
        if np.iinfo(kind).min <= values.min() and values.max() <= np.iinfo(kind).max:
            return kind
    return np.int32
