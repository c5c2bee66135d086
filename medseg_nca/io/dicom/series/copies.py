"""Instances with one UID: copies of one another, or a conflict (PS3.3 C.12.1)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from medseg_nca.errors import ImageError
from medseg_nca.io.dicom.records import Plane, Problem
from medseg_nca.io.dicom.series.instances import Instance

_BLOCK = 2**20


def without_copies(
    instances: Sequence[Instance],
) -> tuple[list[Instance], list[Problem], list[Problem]]:
    """Keep the first of all files that hold the same instance.

    Files hold the same if their bytes are equal, or, for images, if their planes lie at the same
    places and their decoded voxels are equal (one may be compressed).

    Args:
        instances: of one series.

    Returns:
        The instances that are kept, problems (one UID with different content), and notes.
    """
    by_uid: dict[str, list[Instance]] = {}
    for instance in instances:
        by_uid.setdefault(instance.sop_instance_uid or str(instance.path), []).append(instance)
    conflicts: list[tuple[Instance, Instance]] = []
    copies: list[Instance] = []
    for group in by_uid.values():
        for other in group[1:]:
            if _same(group[0], other):
                copies.append(other)
            else:
                conflicts.append((group[0], other))
    problems = []
    if conflicts:
        first, second = conflicts[0]
        problems.append(
            Problem(
                "conflicting-instances",
                f"{first.path} and {second.path} have the same SOPInstanceUID and different "
                f"content{_more(conflicts)}.",
            )
        )
    notes = []
    if copies:
        text = f"copies of other files were passed over: {copies[0].path}{_more(copies)}."
        notes.append(Problem("copies", text))
    dropped = {id(instance) for instance in copies}
    return [i for i in instances if id(i) not in dropped], problems, notes


def _more(found: Sequence[object]) -> str:
    return f" and {len(found) - 1} more" if len(found) > 1 else ""


def _same(first: Instance, second: Instance) -> bool:
    try:
        if _digest(first.path) == _digest(second.path):
            return True
        if first.kind != "image" or not first.planes or first.problems or second.problems:
            return False
        if _bare(first.planes) != _bare(second.planes):
            return False
        return _same_voxels(first.planes, second.planes)
    except (OSError, ImageError):
        return False


def _bare(planes: Sequence[Plane]) -> list[Plane]:
    return [replace(plane, path=Path()) for plane in planes]


def _same_voxels(first: Sequence[Plane], second: Sequence[Plane]) -> bool:
    from medseg_nca.io.dicom.pixels.planes import read_planes

    step = max(1, 2**24 // max(first[0].shape[0] * first[0].shape[1], 1))
    return all(
        np.array_equal(read_planes(first[k : k + step]), read_planes(second[k : k + step]))
        for k in range(0, len(first), step)
    )


def _digest(path: Path) -> bytes:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.digest()
