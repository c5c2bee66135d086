"""Volumes of DICOM in one array without copies, and slice by slice."""

from __future__ import annotations

import gzip
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from medseg_nca.errors import ImageError
from medseg_nca.io.dicom.read import find_stack, read_dicom, read_stack, stack_slices
from medseg_nca.io.dicom.scan import scan
from medseg_nca.io.volume import Volume
from medseg_nca.io.write import write_slices, write_volume
from medseg_nca.pipelines.dicom_import import ImportRequest, run
from tests.io.dicom import build


def ct(folder: Path, **how: object) -> Path:
    array = build.pixels((6, 40, 36), dtype="uint16")
    build.write(folder, build.classic(array[::-1], build.OBLIQUE, intercept=-1024, **how))
    return folder


@pytest.mark.parametrize("syntax", [*build.NATIVE, *build.LOSSLESS], ids=lambda s: s.keyword)
def test_slices_make_the_file_of_the_whole_volume(tmp_path: Path, syntax: str) -> None:
    array = build.pixels((4, 40, 36), dtype="uint16")
    build.write(tmp_path / "ct", build.classic(array, build.OBLIQUE, intercept=-1024), syntax)
    build.save(
        build.enhanced(array, slope=[1, 2, 3, 4], order=[2, 0, 3, 1]), tmp_path / "e", syntax
    )
    for source in (tmp_path / "ct", tmp_path / "e"):
        series, stack = find_stack(scan(source))
        whole, slices = read_stack(series, stack), stack_slices(series, stack)
        assert slices is not None
        assert (slices.shape, slices.spacing, slices.sources, slices.channels, slices.dims) == (
            whole.shape, whole.spacing, whole.sources, whole.channels, whole.dims,
        )  # fmt: skip
        assert slices.header == whole.header
        np.testing.assert_array_equal(np.stack(list(slices.read()), axis=-1), whole.array[0])
        write_slices(slices, tmp_path / "a.nii.gz")
        write_volume(Volume(whole.array, whole.affine), tmp_path / "b.nii.gz")
        first, second = (gzip.decompress((tmp_path / n).read_bytes()) for n in
                         ("a.nii.gz", "b.nii.gz"))  # fmt: skip
        assert first == second


def test_what_has_no_slices_is_read_as_a_whole(tmp_path: Path) -> None:
    colour = build.pixels((3, 40, 36, 3), dtype="uint8")
    build.write(tmp_path / "colour", build.classic(colour))
    sheared = build.affine()
    sheared[1, 2] = 0.6
    build.write(tmp_path / "tilted", build.classic(build.pixels(), sheared))
    for name in ("colour", "tilted"):
        series, stack = find_stack(scan(tmp_path / name))
        assert stack_slices(series, stack) is None
        report = run(ImportRequest(tmp_path / name, tmp_path / f"out-{name}"))
        (record,) = report.records
        assert record.shape == read_stack(series, stack).shape


def test_an_import_writes_what_reading_gives(tmp_path: Path) -> None:
    (record,) = run(ImportRequest(ct(tmp_path / "in"), tmp_path / "out")).records
    volume = read_dicom([tmp_path / "in"])
    write_volume(Volume(volume.array, volume.affine), tmp_path / "a.nii.gz")
    written = tmp_path / "out" / record.maps[0].image
    assert gzip.decompress(written.read_bytes()) == gzip.decompress(
        (tmp_path / "a.nii.gz").read_bytes()
    )
    assert record.shape == volume.shape
    assert record.channels == 1


def test_a_plane_that_is_damaged_since_leaves_no_volume(tmp_path: Path) -> None:
    series, stack = find_stack(scan(ct(tmp_path / "in")))
    slices = stack_slices(series, stack)
    assert slices is not None
    last = stack.planes[-1].path
    last.write_bytes(last.read_bytes()[:-100])
    with pytest.raises(ImageError, match=rf"{last.name}.*truncated"):
        write_slices(slices, tmp_path / "a.nii.gz")
    assert not (tmp_path / "a.nii.gz").exists()


def test_a_volume_is_one_array_without_a_copy(tmp_path: Path) -> None:
    array = build.pixels((40, 128, 128))
    build.write(tmp_path / "in", build.classic(array))
    series, stack = find_stack(scan(tmp_path / "in"))
    read_stack(series, stack)
    tracemalloc.start()
    try:
        volume = read_stack(series, stack)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert min(volume.array.strides) > 0  # as torch wants it
    assert peak < 1.3 * array.nbytes
