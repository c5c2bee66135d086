"""Tell apart the volumes of a series in which positions repeat: by echo, b-value, time, ...

A key (:mod:`medseg_nca.io.dicom.series.keys`) splits planes only if it differs between planes at
one position. What a scanner counts for each volume (echo, b-value, temporal position) splits by its
value; what may differ from slice to slice as well (times) splits by its order at each position.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from medseg_nca.io.dicom.records import Plane
from medseg_nca.io.dicom.series.geometry import same_position_groups
from medseg_nca.io.dicom.series.keys import IDENTITIES, ORDERS

Value = str | float | int
# Values that say more than a number from 1 on.
_NAMED_BY_VALUE = {"stack", "echo", "b", "ti", "flip", "kv", "kernel", "phase", "acquisition"}
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
    """Split parallel planes until no position repeats, or no key is left."""
    pending: list[tuple[tuple[str, ...], list[Plane]]] = [((), list(planes))]
    for key in (*IDENTITIES, *ORDERS):
        after: list[tuple[tuple[str, ...], list[Plane]]] = []
        for name, group in pending:
            after += [((*name, *label), part) for label, part in _apply(key, group)]
        pending = after
    return [
        Part("_".join(name), tuple(group), tuple(tuple(g) for g in _repeated(group)))
        for name, group in pending
    ]


def _repeated(planes: Sequence[Plane]) -> list[list[Plane]]:
    return [group for group in same_position_groups(planes) if len(group) > 1]


def _apply(key: str, planes: list[Plane]) -> list[tuple[tuple[str, ...], list[Plane]]]:
    whole: list[tuple[tuple[str, ...], list[Plane]]] = [((), planes)]
    places = same_position_groups(planes)
    if len(places) == len(planes) or not _tells_apart(key, places):
        return whole
    parts = _by_value(key, planes)
    if key in IDENTITIES:
        if len(places) > 1 and all(len(part) == 1 for part in parts.values()):
            return whole
        return _named(key, parts)
    if None in parts:
        return whole
    if _is_clean(key, list(parts.values()), places):
        return _named(key, parts)
    return _named(key, _by_rank(key, places)) or whole


def _tells_apart(key: str, places: list[list[Plane]]) -> bool:
    return any(len({plane.keys.get(key) for plane in group}) > 1 for group in places)


def _by_value(key: str, planes: Sequence[Plane]) -> dict[Value | None, list[Plane]]:
    parts: dict[Value | None, list[Plane]] = {}
    for plane in planes:
        parts.setdefault(plane.keys.get(key), []).append(plane)
    return parts


def _is_clean(key: str, parts: list[list[Plane]], places: list[list[Plane]]) -> bool:
    """Whether each part is a volume: all positions once; acquisitions may follow each other."""
    place_of = {id(plane): k for k, group in enumerate(places) for plane in group}
    for part in parts:
        found = sorted(place_of[id(plane)] for plane in part)
        if len(set(found)) < len(found):
            return False
        if len(found) < len(places):
            in_one_piece = found[-1] - found[0] == len(found) - 1 and len(found) > 1
            if key != "acquisition" or not in_one_piece:
                return False
    return True


def _by_rank(key: str, places: list[list[Plane]]) -> dict[Value | None, list[Plane]]:
    """The first of each position, the second, ...; {} unless all positions have equally many."""
    count = len(places[0])
    parts: dict[Value | None, list[Plane]] = {rank: [] for rank in range(1, count + 1)}
    for group in places:
        values = [plane.keys.get(key) for plane in group]
        if len(group) != count or len(set(values)) < count:
            return {}
        ordered = sorted(group, key=lambda plane: _sortable(plane.keys.get(key)))
        for rank, plane in enumerate(ordered, 1):
            parts[rank].append(plane)
    return parts


def _named(
    key: str, parts: dict[Value | None, list[Plane]]
) -> list[tuple[tuple[str, ...], list[Plane]]]:
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
