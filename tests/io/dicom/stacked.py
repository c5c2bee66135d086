"""Stacks of planes for the tests of sorting, and what came of them in short."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset

from medseg_nca.io.dicom.records import Problem
from medseg_nca.io.dicom.series.instances import read_instance
from medseg_nca.io.dicom.series.stacks import Sorted, sort_planes
from tests.io.dicom import build


def sort(datasets: Sequence[Dataset], *, shuffle: bool = True) -> Sorted:
    datasets = list(datasets)
    if shuffle:
        random.Random(1).shuffle(datasets)
    found = [read_instance(Path(f"{k:03d}"), dataset) for k, dataset in enumerate(datasets)]
    return sort_planes(found)


def series(
    affine: np.ndarray = build.AXIAL, count: int = 3, name: str = "", **tags: Any
) -> list[Dataset]:
    """Slices with UIDs of their own."""
    datasets = build.classic(build.pixels((count, 8, 6)), affine, modality="MR", **tags)
    for k, dataset in enumerate(datasets):
        dataset.SOPInstanceUID = build.uid(name, sorted(tags.items()), k)
    return datasets


def names(done: Sorted) -> list[str]:
    assert not done.problems
    return [stack.name for stack in done.stacks]


def kinds(problems: Sequence[Problem]) -> list[str]:
    return [problem.kind for problem in problems]
