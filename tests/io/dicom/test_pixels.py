"""Pixels become numbers: syntaxes, slopes, bits, colours."""

from __future__ import annotations

import shutil
import struct
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from medseg_nca.io.dicom.pixels.planes import read_planes
from medseg_nca.io.dicom.pixels.rescale import narrowest
from tests.io.dicom import build
from tests.io.dicom.planes import packaged, plane, read, refused

SYNTAXES = [*build.NATIVE, *build.LOSSLESS]


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda s: s.keyword)
@pytest.mark.parametrize(
    ("dtype", "shape"),
    [
        ("int16", (2, 40, 37)),
        ("uint16", (2, 40, 37)),
        ("uint8", (2, 41, 37)),
        ("uint8", (2, 40, 36, 3)),
    ],
)
def test_every_lossless_syntax_gives_the_values_back(
    tmp_path: Path, syntax: str, dtype: str, shape: tuple[int, ...]
) -> None:
    written = build.pixels(shape, dtype=dtype)
    found = read(build.write(tmp_path, build.classic(written), syntax))
    np.testing.assert_array_equal(found, written)
    assert found.dtype == ("uint8" if dtype == "uint8" else "int16")


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda s: s.keyword)
def test_frames_come_in_the_order_asked_for_with_their_own_slope(
    tmp_path: Path, syntax: str
) -> None:
    written = build.pixels((4, 40, 36), dtype="uint16")
    slopes, intercepts = [1, 2, 3, 4], [0, -5, 10, 7]
    order = [2, 0, 3, 1]
    path = build.save(
        build.enhanced(written, slope=slopes, intercept=intercepts, order=order),
        tmp_path / "a",
        syntax,
    )
    found = read_planes([plane(path, order.index(k)) for k in (3, 1, 0)])
    expected = [written[k].astype(int) * slopes[k] + intercepts[k] for k in (3, 1, 0)]
    np.testing.assert_array_equal(found, expected)


def test_each_file_is_opened_once_and_planes_may_interleave(tmp_path: Path) -> None:
    arrays = [build.pixels((3, 8, 6), dtype="uint16", seed=k) for k in (1, 2)]
    paths = [
        build.save(build.enhanced(array, series=str(k)), tmp_path / str(k))
        for k, array in enumerate(arrays)
    ]
    opened: list[Path] = []

    def heed(event: str, arguments: tuple[Any, ...]) -> None:
        """Python tells it of every file; it stays until the process ends, so it does little."""
        if event == "open" and watching and str(arguments[0]).startswith(str(tmp_path)):
            opened.append(Path(arguments[0]))

    watching = False
    sys.addaudithook(heed)
    wanted = [(1, 2), (0, 1), (1, 0), (0, 1)]
    planes = [plane(paths[file], frame) for file, frame in wanted]
    watching = True
    found = read_planes(planes)
    watching = False
    np.testing.assert_array_equal(found, [arrays[file][frame] for file, frame in wanted])
    assert sorted(opened) == paths


def test_one_frame_of_many_takes_the_memory_of_one(tmp_path: Path) -> None:
    many = np.arange(200, dtype="uint16")[:, None, None] * np.ones((1, 100, 100), "uint16")
    path = build.save(build.enhanced(many), tmp_path / "a")
    read_planes([plane(path, 0)])
    tracemalloc.start()
    try:
        found = read_planes([plane(path, 133)])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (found == 133).all()
    assert peak < 3 * 2**20 < path.stat().st_size


def test_a_shared_slope_and_none(tmp_path: Path) -> None:
    written = build.pixels((2, 8, 6), dtype="uint16")
    path = build.save(build.enhanced(written, slope=2, intercept=-7), tmp_path / "a")
    found = read_planes([plane(path, k) for k in (0, 1)])
    np.testing.assert_array_equal(found, written.astype(int) * 2 - 7)
    bare = build.classic(written, RescaleSlope=None, RescaleIntercept=None)
    np.testing.assert_array_equal(read(build.write(tmp_path / "b", bare)), written)


def test_pet_has_another_slope_for_each_plane(tmp_path: Path) -> None:
    written = build.pixels((3, 8, 6))
    slopes = [0.25, 1.7351, 12.0]
    found = read(build.write(tmp_path, build.classic(written, modality="PT", slope=slopes)))
    assert found.dtype == np.float32
    expected = written * np.array(slopes)[:, None, None]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("low", "high", "slope", "intercept", "expected"),
    [
        (0, 255, 1, 0, "uint8"),
        (0, 256, 1, 0, "int16"),
        (-1, 255, 1, 0, "int16"),
        (0, 32767, 1, 1, "uint16"),
        (-1, 32767, 1, 1, "uint16"),
        (-2, 32767, 1, 1, "int32"),
        (0, 32767, 65537, 0, "int32"),
        (0, 32767, 70000, 0, "float32"),
        (0, 10, 0.5, 0, "float32"),
        (0, 10, 1, 0.25, "float32"),
    ],
)
def test_the_narrowest_type_that_is_exact(
    tmp_path: Path, low: int, high: int, slope: float, intercept: float, expected: str
) -> None:
    written = np.array([[[low, 0]], [[0, high]]], "int16")
    found = read(build.write(tmp_path, build.classic(written, slope=slope, intercept=intercept)))
    assert found.dtype == expected
    np.testing.assert_allclose(found, written * float(slope) + intercept, rtol=1e-7)


@given(st.lists(st.lists(st.integers(-(2**31), 2**31 - 1), min_size=1), min_size=1, max_size=4))
def test_widening_by_steps_gives_the_type_for_all(values: list[list[int]]) -> None:
    dtype = None
    for part in values:
        dtype = narrowest(np.array(part, np.int64), dtype)
    everything = np.array([v for part in values for v in part], np.int64)
    assert dtype == narrowest(everything)
    np.testing.assert_array_equal(everything.astype(dtype), everything)


@pytest.mark.parametrize("signed", [False, True])
def test_bits_beyond_those_stored_are_ignored(tmp_path: Path, signed: bool) -> None:
    written = np.array([[[0, 5, 2047], [-5, -2048, -1]]], "int16")
    if not signed:
        written = np.abs(written)
    dirty = (written.astype("uint16") & 0x0FFF) | np.uint16(0xA000)  # an overlay in the high bits
    dataset = build.classic(dirty, BitsStored=12, HighBit=11, PixelRepresentation=int(signed))
    found = read(build.write(tmp_path, dataset))
    np.testing.assert_array_equal(found, written)


def test_monochrome1_is_turned_within_the_stored_bits_before_the_slope(tmp_path: Path) -> None:
    one = {"PhotometricInterpretation": "MONOCHROME1", "RescaleType": None}
    twelve = build.classic(
        np.array([[[0, 1, 4095]]], "uint16"), modality="OT", slope=2, BitsStored=12, HighBit=11,
        **one,
    )  # fmt: skip
    found = read(build.write(tmp_path / "a", twelve))
    np.testing.assert_array_equal(found, [[[8190, 8188, 0]]])
    signed = build.classic(
        np.array([[[-32768, 0, 32767]]], "int16"), modality="OT", intercept=10, **one
    )
    found = read(build.write(tmp_path / "b", signed))
    np.testing.assert_array_equal(found, [[[32777, 9, -32758]]])


def test_values_with_a_unit_are_not_turned(tmp_path: Path) -> None:
    written = build.pixels((1, 8, 6))
    for modality in ("CT", "PT"):  # RescaleType HU, Units BQML
        shown = build.classic(written, modality=modality, PhotometricInterpretation="MONOCHROME1")
        np.testing.assert_array_equal(read(build.write(tmp_path / modality, shown)), written)


def test_padding_is_a_value_as_any_other(tmp_path: Path) -> None:
    written = np.array([[[-2000, 0, 5]]], "int16")
    dataset = build.classic(written, intercept=-1024, PixelPaddingValue=-2000)
    found = read(build.write(tmp_path, dataset))
    np.testing.assert_array_equal(found, [[[-3024, -1024, -1019]]])


def test_a_modality_table_is_applied_and_no_slope_beside_it(tmp_path: Path) -> None:
    table = Dataset()
    table.LUTDescriptor = [4, 10, 16]
    table.LUTData = struct.pack("<4H", 7, 70, 700, 7000)
    table.ModalityLUTType = "US"
    written = np.array([[[0, 10, 11], [12, 13, 99]]], "uint16")
    dataset = build.classic(written, slope=3, intercept=5, ModalityLUTSequence=Sequence([table]))
    dataset[0].ModalityLUTSequence[0]["LUTData"].VR = "OW"
    found = read(build.write(tmp_path, dataset))
    np.testing.assert_array_equal(found, [[[7, 7, 70], [700, 7000, 7000]]])


def test_float_pixels(tmp_path: Path) -> None:
    values = np.array([[0.5, -1e5, 3.25]])
    for keyword, dtype, bits in (
        ("FloatPixelData", "<f4", 32),
        ("DoubleFloatPixelData", "<f8", 64),
    ):
        dataset = build.classic(np.zeros((1, 1, 3), "uint16"), slope=2, intercept=1)[0]
        del dataset.PixelData, dataset.BitsStored, dataset.PixelRepresentation
        dataset.BitsAllocated = bits
        setattr(dataset, keyword, values.astype(dtype).tobytes())
        found = read([build.save(dataset, tmp_path / keyword)])
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found[0], (values * 2 + 1).astype("float32"))


def test_single_bits_that_do_not_end_with_a_byte(tmp_path: Path) -> None:
    bits = np.random.default_rng(0).integers(0, 2, (5, 3, 5)).astype("uint8")
    dataset = build.enhanced(bits)
    packed = np.packbits(bits.ravel(), bitorder="little").tobytes()
    dataset.PixelData = packed + bytes(len(packed) % 2)
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 1, 1, 0
    path = build.save(dataset, tmp_path / "a")
    np.testing.assert_array_equal(read_planes([plane(path, k) for k in range(5)]), bits)
    big = build.save(dataset, tmp_path / "b", build.ExplicitVRBigEndian)
    refused("unsupported-pixels", [plane(big)], "big-endian")


def test_colour_by_plane_and_palette_and_ybr(tmp_path: Path) -> None:
    written = build.pixels((1, 8, 6, 3), dtype="uint8")
    by_plane = build.classic(written, PlanarConfiguration=1)[0]
    by_plane.PixelData = written[0].transpose(2, 0, 1).tobytes()
    np.testing.assert_array_equal(read([build.save(by_plane, tmp_path / "a")]), written)

    indices = np.array([[[0, 1, 2, 1]]], "uint8")
    palette = build.classic(indices, PhotometricInterpretation="PALETTE COLOR")[0]
    for colour, entries in (("Red", (0, 255, 9)), ("Green", (0, 128, 8)), ("Blue", (0, 1, 7))):
        setattr(palette, f"{colour}PaletteColorLookupTableDescriptor", [3, 0, 16])
        data = struct.pack("<3H", *(entry << 8 for entry in entries))
        setattr(palette, f"{colour}PaletteColorLookupTableData", data)
    found = read([build.save(palette, tmp_path / "b")])
    expected = [[[[0, 0, 0], [255, 128, 1], [9, 8, 7], [255, 128, 1]]]]
    np.testing.assert_array_equal(found, expected)

    grey = np.full((1, 2, 2, 3), 128, "uint8")
    grey[..., 0] = [[10, 20], [200, 255]]
    ybr = build.classic(grey, PhotometricInterpretation="YBR_FULL")
    found = read(build.write(tmp_path / "c", ybr))
    np.testing.assert_array_equal(found, np.repeat(grey[..., :1], 3, axis=-1))


@pytest.mark.parametrize(
    ("name", "reference", "tolerance"),
    [
        ("MR_small_RLE.dcm", "MR_small.dcm", 0),
        ("MR_small_jp2klossless.dcm", "MR_small.dcm", 0),
        ("MR_small_jpeg_ls_lossless.dcm", "MR_small.dcm", 0),
        ("MR_small_bigendian.dcm", "MR_small.dcm", 0),
        ("SC_rgb_jpeg_dcmtk.dcm", "SC_rgb_dcmtk_+eb+cr.dcm", 8),
        ("SC_rgb_gdcm_KY.dcm", "SC_rgb_dcmtk_+eb+cr.dcm", 8),
        ("SC_ybr_full_422_uncompressed.dcm", "SC_rgb_dcmtk_+eb+cy+s2.dcm", 5),
    ],
)
def test_files_of_others_agree_with_their_uncompressed_twins(
    name: str, reference: str, tolerance: int
) -> None:
    found, expected = read([packaged(name)]), read([packaged(reference)])
    assert np.abs(found.astype(int) - expected.astype(int)).max() <= tolerance


@pytest.mark.peer
@pytest.mark.parametrize("selection", range(1, 8))
def test_jpeg_lossless_of_dcmtk_with_every_predictor(tmp_path: Path, selection: int) -> None:
    if shutil.which("dcmcjpeg") is None:
        pytest.skip("dcmcjpeg is missing: apt-get install dcmtk")
    written = np.random.default_rng(0).integers(-32768, 32768, (1, 20, 30)).astype("int16")
    native = build.write(tmp_path, build.classic(written))[0]
    packed = tmp_path / "packed.dcm"
    command = ["dcmcjpeg", "+el", "+sv", str(selection), str(native), str(packed)]
    subprocess.run(command, check=True, capture_output=True)
    np.testing.assert_array_equal(read([packed]), written)


def test_tags_that_files_lack_have_defaults(tmp_path: Path) -> None:
    written = build.pixels((1, 8, 6), dtype="uint16")
    bare = build.classic(
        written, BitsStored=None, HighBit=None, PixelRepresentation=None, SamplesPerPixel=None
    )
    np.testing.assert_array_equal(read(build.write(tmp_path, bare)), written)


def test_real_compressed_series_are_decoded(shared_data: Callable[[str], Path]) -> None:
    for name in ("compressed_j2k", "compressed_jpeg", "compressed_rle"):
        paths = sorted((shared_data("dicom") / name).iterdir())
        found = read(paths)
        first = pydicom.dcmread(paths[0])
        assert found.shape == (len(paths), first.Rows, first.Columns)
        assert len(np.unique(found)) > 100
