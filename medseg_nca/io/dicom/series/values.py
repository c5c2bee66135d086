"""The values of keys as they are compared: what is one value, and which comes first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from medseg_nca.io.dicom.records import Plane
from medseg_nca.io.dicom.series.clock import in_order
from medseg_nca.io.dicom.series.keys import MOMENTS, SETTINGS

Value = str | float | int

# Echo times and the like that differ by this part of themselves are one, and those below the least
# number that any of them needs.
SAME_SETTING, LEAST_SETTING = 1e-4, 1e-6
# Components of a unit vector.
SAME_DIRECTION = 1e-3


class Values:
    """The values of planes that belong together, jitter and midnight taken out."""

    def __init__(self, planes: Sequence[Plane]) -> None:
        self._means: dict[str, dict[Value, Value]] = {}
        for key in SETTINGS:
            counts = _counts(key, planes)
            if len(counts) > 1:
                self._means[key] = _merged_numbers(counts)
        directions = _counts("direction", planes)
        if len(directions) > 1:
            self._means["direction"] = _merged_directions(directions)
        for key in MOMENTS:
            moments = [value for value in _counts(key, planes) if isinstance(value, int)]
            self._means[key] = dict[Value, Value](in_order(moments).items())

    def of(self, plane: Plane, key: str) -> Value | None:
        """The value of a key; equal ones are one. None where the plane has none."""
        value = plane.keys.get(key)
        if value is None or key not in self._means:
            return value
        return self._means[key].get(value, value)


def _counts(key: str, planes: Sequence[Plane]) -> Counter[Value]:
    return Counter(value for plane in planes if (value := plane.keys.get(key)) is not None)


def _merged_numbers(counts: Counter[Value]) -> dict[Value, Value]:
    """Each number stands for the most frequent one of those that are the same."""
    numbers = sorted(float(value) for value in counts if not isinstance(value, str))
    means: dict[Value, Value] = {}
    start = 0
    for end in range(1, len(numbers) + 1):
        within = SAME_SETTING * abs(numbers[start]) + LEAST_SETTING
        if end < len(numbers) and numbers[end] - numbers[start] <= within:
            continue
        same: list[Value] = [*numbers[start:end]]
        most = max(same, key=lambda value: counts[value])
        means |= dict.fromkeys(same, int(most) if float(most).is_integer() else most)
        start = end
    return means


def _merged_directions(counts: Counter[Value]) -> dict[Value, Value]:
    """Each vector stands for the most frequent one near to it."""
    means: dict[Value, Value] = {}
    found: dict[int, _Vectors] = {}
    for text, _ in counts.most_common():
        vector = np.array([float(part) for part in str(text).split("\\")])
        known = found.setdefault(len(vector), _Vectors(len(vector)))
        means[text] = known.near(vector, text)
    return means


class _Vectors:
    """Vectors that are nowhere near to each other, in an array that grows."""

    def __init__(self, length: int) -> None:
        self._values: list[Value] = []
        self._rows = np.empty((16, length))

    def near(self, vector: np.ndarray, value: Value) -> Value:
        """The value of the first vector near to this one; its own if it is kept as a new one."""
        count = len(self._values)
        apart = np.abs(self._rows[:count] - vector).max(axis=1)
        first = np.flatnonzero(apart <= SAME_DIRECTION)
        if len(first):
            return self._values[int(first[0])]
        if count == len(self._rows):
            self._rows = np.concatenate([self._rows, np.empty_like(self._rows)])
        self._rows[count] = vector
        self._values.append(value)
        return value
