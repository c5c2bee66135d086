"""Volumes that are written slice by slice are the files that whole volumes are."""

from __future__ import annotations

import gzip
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from medseg_nca.errors import ImageError, OutputError
from medseg_nca.io.read import read_volume
from medseg_nca.io.slices import Slices
from medseg_nca.io.volume import Volume
from medseg_nca.io.write import write_slices, write_volume

AFFINE = np.array([[-0.7, 0, 0, 9], [0, 0.8, 0.1, -3], [0, -0.1, 2.5, 4], [0, 0, 0, 1.0]])


def slices(array: NDArray[Any], dtype: str, *, own: bool = False) -> Slices:
    """``array`` is (x, y, z); with ``own`` each slice has the smallest type for itself."""

    def read() -> Iterator[NDArray[Any]]:
        for k in range(array.shape[2]):
            part = array[..., k]
            if own and np.array_equal(part, np.rint(part)):
                yield part.astype(np.int64)
            else:
                yield part

    x, y, z = array.shape
    return Slices((x, y, z), AFFINE, read, np.dtype(dtype))


def ramp(low: float, high: float, *extremes: float) -> NDArray[Any]:
    """Numbers from low to high; each extreme stands in a slice of its own, from the end on."""
    array = np.linspace(low, high, 4 * 5 * 6).reshape(4, 5, 6).round()
    for k, value in enumerate(extremes, start=1):
        array[1, 2, -k] = value
    return array


@pytest.mark.parametrize("guess", ["uint8", "int16", "uint16", "int32", "float32"])
@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (ramp(0, 200), "uint8"),
        (ramp(0, 200, -1), "int16"),
        (ramp(-1024, 3000), "int16"),
        (ramp(0, 200, 40_000), "uint16"),
        (ramp(0, 200, -5, 40_000), "int32"),
        (ramp(0, 200, 40_000, -5), "int32"),
        (ramp(0, 200, 0.5), "float32"),
        (ramp(0, 200, 0.5, 2.0**31), "float32"),
        (ramp(0, 200, 2.0**31, -7), "float32"),
    ],
)
def test_the_file_is_the_one_of_the_whole_volume(
    tmp_path: Path, array: NDArray[Any], expected: str, guess: str
) -> None:
    write_slices(slices(array, guess, own=True), tmp_path / "sliced.nii.gz")
    whole = Volume(array[None].astype(expected), AFFINE)
    write_volume(whole, tmp_path / "whole.nii.gz")
    found, wanted = (
        gzip.decompress((tmp_path / name).read_bytes())
        for name in ("sliced.nii.gz", "whole.nii.gz")
    )
    assert found == wanted
    volume = read_volume(tmp_path / "sliced.nii.gz")
    assert volume.array.dtype == expected
    np.testing.assert_array_equal(volume.array[0], array.astype(expected))


def test_one_slice_at_a_time_is_in_memory(tmp_path: Path) -> None:
    plane = np.random.default_rng(0).integers(0, 3000, (256, 256), np.int16)
    many = Slices((256, 256, 200), AFFINE, lambda: iter([plane] * 200), np.dtype(np.int16))
    write_slices(many, tmp_path / "a.nii.gz")
    tracemalloc.start()
    try:
        write_slices(many, tmp_path / "a.nii.gz")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 200 * plane.nbytes
    assert read_volume(tmp_path / "a.nii.gz").shape == (256, 256, 200)


def test_an_error_of_a_slice_leaves_no_file(tmp_path: Path) -> None:
    def read() -> Iterator[NDArray[Any]]:
        yield np.zeros((3, 4), np.int16)
        raise ImageError("the second slice is damaged")

    broken = Slices((3, 4, 2), AFFINE, read, np.dtype(np.int16))
    with pytest.raises(ImageError, match="second slice"):
        write_slices(broken, tmp_path / "a.nii.gz")
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").touch()
    with pytest.raises(OutputError):
        write_slices(slices(ramp(0, 9), "uint8"), tmp_path / "file" / "a.nii.gz")
