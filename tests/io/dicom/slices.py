"""Series of planes for the tests of sorting, and what came of them in short."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset

from medseg_nca.io.dicom.series.instances import read_instance
from medseg_nca.io.dicom.series.stacks import Sorted, sort_planes
from tests.io.dicom import build

Change = Callable[[Dataset, int, int], None]


def sort(datasets: Sequence[Dataset]) -> Sorted:
    """In any order of files."""
    shuffled = random.Random(2).sample(list(datasets), len(datasets))
    return sort_planes([read_instance(Path(f"{k:03d}"), d) for k, d in enumerate(shuffled)])


def serial(
    volumes: int, count: int = 4, change: Change | None = None, **tags: Any
) -> list[Dataset]:
    """Volumes at the same positions, numbered one after the other; ``change(slice, v, z)``."""
    tags = {"modality": "MR", "AcquisitionNumber": None, "AcquisitionTime": None} | tags
    unclear = {"AcquisitionDate": None, "ContentDate": None, "ContentTime": None}
    found = []
    for volume in range(volumes):
        made = build.classic(build.pixels((count, 8, 6), seed=volume), **unclear | tags)
        for z, dataset in enumerate(made):
            dataset.SOPInstanceUID = build.uid("serial", volume, z)
            dataset.InstanceNumber = volume * count + z + 1
            if change is not None:
                change(dataset, volume, z)
            found.append(dataset)
    return found


def names(done: Sorted) -> list[str]:
    assert not done.problems, done.problems
    return [stack.name for stack in done.stacks]


def kinds(done: Sorted) -> list[str]:
    return [problem.kind for problem in done.problems]


def assert_whole(done: Sorted, volumes: int, count: int = 4) -> None:
    assert not done.problems, done.problems
    assert [len(stack.planes) for stack in done.stacks] == [count] * volumes
    assert {round(float(stack.affine[2, 2]), 6) for stack in done.stacks} == {2.5}


def the_same(volume: int, z: int) -> int:
    return z + 1
