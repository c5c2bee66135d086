"""Tell apart the volumes of a series in which positions repeat: by echo, b-value, time, ...

A key (:mod:`medseg_nca.io.dicom.series.keys`) splits planes only if it differs between planes at
one position. What a scanner counts for each volume (echo, b-value, temporal position) splits by its
value; what may differ from slice to slice as well (times) splits by its order at each position.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from medseg_nca.io.dicom.records import Plane
from medseg_nca.io.dicom.series.geometry import is_even, same_position_groups
from medseg_nca.io.dicom.series.keys import IDENTITIES, ORDERS, SETTINGS
from medseg_nca.io.dicom.series.values import Value, Values

Named = tuple[tuple[str, ...], list[Plane]]

# Settings whose ratio is at most this do not tell slices from thick slabs that lie between them.
_ALIKE = 1.05
# Settings whose ratio is at most this tell volumes apart only if each of the volumes is whole.
_NEAR = 1.01
# The name of volumes that only the number of the instance tells apart.
BY_NUMBER = "volume"
# Keys whose values are used in names; the values of other keys are numbered from 1.
_NAMED_BY_VALUE = {
    "stack",
    "echo",
    "b",
    "ti",
    "flip",
    "kv",
    "kernel",
    "thickness",
    "phase",
    "acquisition",
}
_NAMES = {
    "component": "type", "te": "echo", "trigger": "time", "reference": "time", "clock": "time",
    "content": "time",
}  # fmt: skip
_UNSAFE = re.compile(r"[^a-z0-9.+-]+")


@dataclass(frozen=True)
class Part:
    """Planes that belong together.

    Attributes:
        name: "" if there is one part only, else for example ``echo-1_time-2``.
        planes: in the order in which they came.
        repeated: the planes of each position that several planes still hold.
    """

    name: str
    planes: tuple[Plane, ...]
    repeated: tuple[tuple[Plane, ...], ...]


def split(planes: Sequence[Plane]) -> list[Part]:
    """Split parallel planes until no position repeats, or nothing is left that tells them apart.

    Where no position repeats, sets of planes that lie between each other are told apart as well,
    if each makes a regular grid of its own: slices, and thick slabs made of them.
    """
    values = Values(planes)
    pending: list[Named] = [((), list(planes))]
    for key in (*IDENTITIES, *ORDERS):
        pending = [
            ((*name, *label), part)
            for name, group in pending
            for label, part in _apply(key, group, values)
        ]
    for step in (_by_number, _interleaved):
        pending = [
            ((*name, *label), part)
            for name, group in pending
            for label, part in step(group, values)
        ]
    return [
        Part("_".join(name), tuple(group), tuple(tuple(g) for g in _repeated(group)))
        for name, group in pending
    ]


def _repeated(planes: Sequence[Plane]) -> list[list[Plane]]:
    return [group for group in same_position_groups(planes) if len(group) > 1]


def _apply(key: str, planes: list[Plane], values: Values) -> list[Named]:
    whole: list[Named] = [((), planes)]
    places = same_position_groups(planes)
    if len(places) == len(planes) or not _tells_apart(key, places, values):
        return whole
    parts = _by_value(key, planes, values)
    if key in SETTINGS:
        parts = _near_joined(parts, places)
        if len(parts) == 1:
            return whole
    if key in IDENTITIES:
        if len(places) > 1 and all(len(part) == 1 for part in parts.values()):
            return whole
        return _named(key, parts)
    if None in parts:
        return whole
    if _is_clean(key, list(parts.values()), places):
        return _named(key, parts)
    return _named(key, _by_rank(key, places, values)) or whole


def _tells_apart(key: str, places: list[list[Plane]], values: Values) -> bool:
    """Whether a key differs at one position, or an identity at half of those that repeat.

    One echo time or type that is off at a single slice of many is a slip, and no echo.
    """
    repeated = [group for group in places if len(group) > 1]
    telling = sum(len({values.of(plane, key) for plane in group}) > 1 for group in repeated)
    return telling > 0 and (key not in IDENTITIES or 2 * telling >= len(repeated))


def _by_value(key: str, planes: Sequence[Plane], values: Values) -> dict[Value | None, list[Plane]]:
    parts: dict[Value | None, list[Plane]] = {}
    for plane in planes:
        parts.setdefault(values.of(plane, key), []).append(plane)
    return parts


def _near_joined(
    parts: dict[Value | None, list[Plane]], places: list[list[Plane]]
) -> dict[Value | None, list[Plane]]:
    """Parts whose settings are all but the same are one, unless each has all positions."""
    numbers = sorted(float(value) for value in parts if isinstance(value, int | float))
    starts = [k for k, value in enumerate(numbers) if k == 0 or value > _NEAR * numbers[k - 1]]
    place_of = _places(places)
    joined = dict(parts)
    for start, end in pairwise([*starts, len(numbers)]):
        near = [joined[value] for value in numbers[start:end]]
        if all(len({place_of[id(plane)] for plane in part}) == len(places) for part in near):
            continue
        most = max(numbers[start:end], key=lambda value: len(parts[value]))
        for value in numbers[start:end]:
            del joined[value]
        joined[most] = [plane for part in near for plane in part]
    return joined


def _places(places: list[list[Plane]]) -> dict[int, int]:
    """The number of its position for each plane."""
    return {id(plane): k for k, group in enumerate(places) for plane in group}


def _is_clean(key: str, parts: list[list[Plane]], places: list[list[Plane]]) -> bool:
    """Whether each part is a volume: all positions once; acquisitions may follow each other."""
    place_of = _places(places)
    for part in parts:
        found = sorted(place_of[id(plane)] for plane in part)
        if len(set(found)) < len(found):
            return False
        if len(found) < len(places):
            in_one_piece = found[-1] - found[0] == len(found) - 1 and len(found) > 1
            if key != "acquisition" or not in_one_piece:
                return False
    return True


def _by_rank(
    key: str, places: list[list[Plane]], values: Values
) -> dict[Value | None, list[Plane]]:
    """The first of each position, the second, ...; {} unless all positions have equally many."""
    count = len(places[0])
    parts: dict[Value | None, list[Plane]] = {rank: [] for rank in range(1, count + 1)}
    for group in places:
        found = [values.of(plane, key) for plane in group]
        if len(group) != count or len(set(found)) < count:
            return {}
        ordered = sorted(group, key=lambda plane: _sortable(values.of(plane, key)))
        for rank, plane in enumerate(ordered, 1):
            parts[rank].append(plane)
    return parts


def _by_number(planes: list[Plane], values: Values) -> list[Named]:
    """Volumes that only InstanceNumber tells apart, as GE numbers them.

    All positions have equally many planes, numbered volume by volume, each in the same order of the
    slices, or slice by slice.
    """
    whole: list[Named] = [((), planes)]
    places = same_position_groups(planes)
    count = len(places[0])
    numbers = {plane.instance_number for plane in planes}
    if count < 2 or any(len(group) != count for group in places):
        return whole
    if None in numbers or len(numbers) < len(planes):
        return whole
    table = np.array([sorted(plane.instance_number or 0 for plane in group) for group in places])
    by_volume = (table[:, :-1].max(axis=0) < table[:, 1:].min(axis=0)).all() and (
        np.argsort(table, axis=0) == np.argsort(table[:, :1], axis=0)
    ).all()
    by_slice = table[np.argsort(table[:, 0])]
    if not by_volume and not (by_slice[:-1, -1] < by_slice[1:, 0]).all():
        return whole
    rank_of = {number: rank for row in table.tolist() for rank, number in enumerate(row, 1)}
    parts: list[list[Plane]] = [[] for _ in range(count)]
    for plane in planes:
        parts[rank_of[plane.instance_number] - 1].append(plane)
    return [((f"{BY_NUMBER}-{rank}",), part) for rank, part in enumerate(parts, 1)]


def _interleaved(planes: list[Plane], values: Values) -> list[Named]:
    """Sets between each other that differ in what a picture is or how it was made."""
    whole: list[Named] = [((), planes)]
    if _repeated(planes):
        return whole
    for key in IDENTITIES:
        if key in ("stack", "time"):
            continue
        parts = _by_value(key, planes, values)
        groups = list(parts.values())
        comparable = key in SETTINGS and (key == "thickness" or None not in parts)
        alike = comparable and _nearly_equal(list(parts))
        if len(groups) > 1 and not alike and _lie_between(groups, planes):
            return _named(key, parts)
    return whole


def _nearly_equal(settings: Sequence[Value | None]) -> bool:
    known = [float(one) for one in settings if isinstance(one, int | float)]
    return len(known) < 2 or max(known) <= _ALIKE * min(known)


def _lie_between(groups: Sequence[Sequence[Plane]], planes: Sequence[Plane]) -> bool:
    """Whether groups reach into each other along the normal, each of them even by itself.

    Planes that are even as they are must come from the groups in turns. Others must hold a volume,
    of three planes or more, beside which one slab alone may lie.
    """
    place_of = _places(same_position_groups(planes))
    places = [sorted(place_of[id(plane)] for plane in group) for group in groups]
    if is_even(planes):
        turns = [set(np.diff(found).tolist()) == {len(groups)} for found in places]
        return all(turns)
    if max(map(len, groups)) < 3 or not all(map(is_even, groups)):
        return False
    ends = sorted((found[0], found[-1]) for found in places)
    return any(after[0] < before[1] for before, after in pairwise(ends))


def _named(key: str, parts: dict[Value | None, list[Plane]]) -> list[Named]:
    values = sorted(parts, key=_sortable)
    if key == "direction":
        values = sorted(parts, key=lambda value: _first_number(parts[value]))
    labels = safe_labels(key, values)
    return [((label,), parts[value]) for label, value in zip(labels, values, strict=True)]


def safe_labels(key: str, values: Sequence[Value | None]) -> list[str]:
    """Name the values of a key: safe in file names and conditions, all different.

    Args:
        key: of :mod:`medseg_nca.io.dicom.series.keys`.
        values: each once; texts may hold anything.
    """
    prefix = _NAMES.get(key, key)
    numbers = [f"{prefix}-{k}" for k in range(1, len(values) + 1)]
    if key in _NAMED_BY_VALUE:
        names = [f"{prefix}-{_clean(str(0 if v is None else v))}" for v in values]
    elif key in ("type", "component"):
        sets = [set(str(v or "").upper().split("\\")) for v in values]
        common = set.intersection(*sets) if sets else set()
        words = [[w for w in str(v or "").upper().split("\\") if w not in common] for v in values]
        names = [f"{prefix}-{_clean('-'.join(part)) or 'plain'}" for part in words]
    else:
        return numbers
    return names if len(set(names)) == len(names) else numbers


def _clean(text: str) -> str:
    return _UNSAFE.sub("-", text.lower()).strip("-.")[:40]


def _sortable(value: Value | None) -> tuple[int, float, str]:
    if value is None:
        return (0, 0.0, "")
    return (1, float(value), "") if isinstance(value, int | float) else (2, 0.0, value)


def _first_number(planes: Sequence[Plane]) -> int:
    return min(plane.instance_number or 0 for plane in planes)
