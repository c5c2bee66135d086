"""Samples read straight from the file are those of pydicom's decoder, and rescaling is exact."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray

from medseg_nca.io.dicom.pixels.planes import each_plane, of_pixels, read_planes
from medseg_nca.io.dicom.pixels.rescale import Rescale
from medseg_nca.io.dicom.records import Plane
from tests.io.dicom import build


def plane(path: Path, frame: int | None = None) -> Plane:
    return Plane(path, frame, "", (0, 0, 0), (1, 0, 0), (0, 1, 0), (1, 1), (9, 7))


@pytest.mark.parametrize("syntax", build.NATIVE, ids=lambda s: s.keyword)
@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16", "uint32", "int32"])
def test_stored_values_are_those_of_pydicom(tmp_path: Path, syntax: str, dtype: str) -> None:
    info = np.iinfo(dtype)
    stored = np.random.default_rng(1).integers(info.min, info.max, (3, 9, 7), dtype, endpoint=True)
    stored[0, 0, :2] = info.min, info.max
    dataset = build.enhanced(stored, modality="CT")
    path = build.save(dataset, tmp_path / "a", syntax)
    found = read_planes([plane(path, k) for k in range(3)])
    theirs = pydicom.dcmread(path).pixel_array
    if np.can_cast(theirs.dtype, found.dtype):
        np.testing.assert_array_equal(found, theirs)
    np.testing.assert_array_equal(found, stored.astype(found.dtype))


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16", "uint32", "int32"])
@pytest.mark.parametrize("intercept", [0, -1024, 1, 40_000, -(2**20)])
@pytest.mark.parametrize("slope", [1, -1, 2, -3, 65_537, 2**20 + 1])
def test_whole_slopes_are_exact(slope: int, intercept: int, dtype: str) -> None:
    info = np.iinfo(dtype)
    stored = np.random.default_rng(2).integers(info.min, info.max, (4, 50), dtype, endpoint=True)
    for part in (stored, stored // 9, stored[:1] * 0 + 3):
        expected = np.vectorize(lambda v: int(v) * slope + intercept, otypes=[object])(part)
        found = Rescale(float(slope), float(intercept)).apply(part)
        assert found.dtype.kind in "iu"
        assert (found.astype(object) == expected).all()


def test_beyond_64_bits_values_are_real() -> None:
    stored = np.array([[0, 200]], np.uint8)
    found = Rescale(1e18, 0.0).apply(stored)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, [[0, 2e20]])


def test_planes_come_one_after_the_other_as_they_are_put_together(tmp_path: Path) -> None:
    arrays = build.pixels((5, 9, 7), dtype="uint16")
    paths = build.write(tmp_path / "a", build.classic(arrays, intercept=-1000))
    film = build.save(build.enhanced(arrays), tmp_path / "b")
    for planes in (
        [plane(path) for path in paths],
        [plane(film, k) for k in (4, 2, 0, 1)],
        [plane(paths[0]), plane(film, 1), plane(paths[1]), plane(film, 0)],
    ):
        whole = read_planes(planes)
        np.testing.assert_array_equal(list(each_plane(planes)), whole)
        np.testing.assert_array_equal(read_planes(planes, upwards=True), whole[:, ::-1])


def test_a_type_that_widens_in_the_middle_keeps_what_was_there(tmp_path: Path) -> None:
    arrays = build.pixels((6, 9, 7), dtype="uint16") % 200
    arrays[3] += 300
    arrays[4] += 60_000
    order: list[int] = [5, 0, 3, 1, 4, 2]
    film = build.save(build.enhanced(arrays, order=range(6)), tmp_path / "b")
    found = read_planes([plane(film, k) for k in order])
    expected: NDArray[Any] = arrays[order]
    np.testing.assert_array_equal(found, expected)


def test_the_part_of_a_header_that_pixels_need_is_enough(tmp_path: Path) -> None:
    kept = ("BitsStored", "ModalityLUTSequence", "RedPaletteColorLookupTableData", "Units",
            "PerFrameFunctionalGroupsSequence", "ExtendedOffsetTable", "SOPClassUID")  # fmt: skip
    left = ("PatientName", "StudyDate", "KVP", "ProcedureCodeSequence")
    for names, wanted in ((kept, True), (left, False)):
        for name in names:
            tag = pydicom.datadict.tag_for_keyword(name)
            assert tag is not None
            assert of_pixels(tag) is wanted, name
