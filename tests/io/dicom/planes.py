"""Reading the planes of one file, for tests of pixels."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from numpy.typing import NDArray
from pydicom.data import get_testdata_file

from medseg_nca.io.dicom.files.reader import DicomError
from medseg_nca.io.dicom.pixels.planes import read_planes
from medseg_nca.io.dicom.records import Plane


def plane(path: Path, frame: int | None = None) -> Plane:
    return Plane(path, frame, "", None, None, None, None, (0, 0))


def read(paths: Iterable[Path]) -> NDArray[Any]:
    return read_planes([plane(path) for path in paths])


def packaged(name: str) -> Path:
    path = get_testdata_file(name, download=False)
    assert path is not None
    return Path(str(path))


def refused(kind: str, planes: list[Plane], *words: str) -> None:
    with pytest.raises(DicomError) as caught:
        read_planes(planes)
    assert caught.value.problem.kind == kind, caught.value.problem.message
    for word in (str(planes[-1].path), *words):
        assert word in caught.value.problem.message
