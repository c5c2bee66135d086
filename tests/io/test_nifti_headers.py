"""What NIfTI headers say of the grid, the units, the axes and the values."""

from __future__ import annotations

import gzip
import logging
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from medseg_nca.errors import ImageError
from medseg_nca.io.grid import grid_difference
from medseg_nca.io.peek import peek
from medseg_nca.io.read import read_image, read_label, read_volume
from medseg_nca.io.write import write_volume

ARRAY = np.random.default_rng(3).integers(0, 3, (6, 5, 4)).astype(np.int16)
TURN = np.array([[0.6, 0.8, 0], [-0.8, 0.6, 0], [0, 0, 1]])


def affine(scale: float = 1.0) -> Any:
    grid = np.eye(4)
    grid[:3, :3] = TURN * [0.8, 0.9, 2.5] * scale
    grid[:3, 3] = np.array([10, -20, 30]) * scale
    return grid


def image(
    array: Any = ARRAY, scale: float = 1.0, qform: int = 1, sform: int = 1, kind: Any = None
) -> Any:
    """With both forms set to the same grid."""
    made = (kind or nib.Nifti1Image)(array, affine(scale))
    made.set_qform(affine(scale), qform)
    made.set_sform(affine(scale), sform)
    return made


def save(path: Path, made: Any, **fields: Any) -> Path:
    """Write an image, then fields of its header as they are, unchecked."""
    nib.save(made, path)
    content = path.read_bytes()
    packed = path.suffix == ".gz"
    content = gzip.decompress(content) if packed else content
    kind = type(made).header_class
    size = kind.template_dtype.itemsize
    header = kind(content[:size], check=False)
    for name, value in fields.items():
        header[name] = value
    content = header.binaryblock + content[size:]
    path.write_bytes(gzip.compress(content) if packed else content)
    return path


def itk_affine(path: Path) -> Any:
    """What ITK makes of a file, as an affine to RAS."""
    seen = sitk.ReadImage(str(path))
    grid = np.eye(4)
    direction = np.array(seen.GetDirection()).reshape(seen.GetDimension(), -1)[:3, :3]
    grid[:3, :3] = direction * np.array(seen.GetSpacing())[:3]
    grid[:3, 3] = seen.GetOrigin()[:3]
    return np.diag([-1, -1, 1, 1]) @ grid


# --- units


@pytest.mark.parametrize("time", [0, 8, 16, 24, 32])
@pytest.mark.parametrize(("unit", "scale"), [(0, 1), (1, 0.001), (2, 1), (3, 1000)])
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
def test_lengths_are_millimetres_whatever_the_header_counts_in(
    tmp_path: Path, kind: Any, unit: int, scale: float, time: int
) -> None:
    made = image(scale=scale, kind=kind)
    path = save(tmp_path / "a.nii.gz", made, xyzt_units=unit + time)
    volume, extent = read_volume(path), peek((path,))
    np.testing.assert_allclose(volume.affine, affine(), atol=1e-4)
    np.testing.assert_allclose(volume.spacing, (0.8, 0.9, 2.5), rtol=1e-5)
    assert extent is not None
    assert extent.affine is not None
    np.testing.assert_array_equal(extent.affine, volume.affine)
    if kind is nib.Nifti1Image:
        np.testing.assert_allclose(itk_affine(path), affine(), atol=1e-4)


@pytest.mark.parametrize(("qform", "sform"), [(1, 0), (0, 1), (0, 0)])
def test_every_way_to_give_the_grid_is_in_the_header_s_unit(
    tmp_path: Path, qform: int, sform: int
) -> None:
    made = image(scale=1000, qform=qform, sform=sform)
    volume = read_volume(save(tmp_path / "a.nii", made, xyzt_units=3))
    np.testing.assert_allclose(volume.spacing, (0.8, 0.9, 2.5), rtol=1e-5)


@pytest.mark.parametrize(("unit", "scale"), [(1, 0.001), (3, 1000)])
def test_a_result_lies_on_its_image_for_every_reader(
    tmp_path: Path, unit: int, scale: float
) -> None:
    path = save(tmp_path / "a.nii.gz", image(scale=scale), xyzt_units=unit + 8)
    volume = read_volume(path)
    out = tmp_path / "out.nii.gz"
    write_volume(volume.with_array(volume.array.astype(np.uint8)), out)
    before, after = nib.load(path), nib.load(out)
    np.testing.assert_array_equal(before.affine, after.affine)
    assert after.header["xyzt_units"] == unit + 8
    assert after.header.get_zooms() == before.header.get_zooms()
    np.testing.assert_allclose(itk_affine(out), itk_affine(path), atol=1e-9)
    assert grid_difference(read_label(out), volume) is None


def test_a_moved_grid_is_written_in_millimetres(tmp_path: Path) -> None:
    volume = read_volume(save(tmp_path / "a.nii", image(scale=1000), xyzt_units=3 + 16))
    moved = volume.affine.copy()
    moved[0, 3] += 7
    write_volume(type(volume)(volume.array, moved, (), volume.header), tmp_path / "b.nii")
    again = nib.load(tmp_path / "b.nii")
    np.testing.assert_allclose(again.affine, moved, atol=1e-4)
    assert again.header.get_xyzt_units() == ("mm", "msec")


def test_an_image_and_a_label_map_in_different_units_lie_on_each_other(tmp_path: Path) -> None:
    first = save(tmp_path / "a.nii", image(scale=1000), xyzt_units=3)
    second = save(tmp_path / "b.nii", image(), xyzt_units=2)
    assert grid_difference(read_volume(first), read_label(second)) is None
    assert read_image([first, second]).array.shape[0] == 2


@pytest.mark.parametrize("code", [4, 7, 5 + 8])
def test_a_unit_that_does_not_exist_is_refused(tmp_path: Path, code: int) -> None:
    path = save(tmp_path / "a.nii", image(), xyzt_units=code)
    with pytest.raises(ImageError, match=rf"'code {code % 8}' \(xyzt_units\)"):
        read_volume(path)
    assert peek((path,)) is None


# --- qform and sform


def quaternion(made: Any, excess: float) -> dict[str, Any]:
    """Fields of half a turn whose quaternion is too long by some amount."""
    half = np.array([0.6, 0.8, 0]) * np.sqrt(1 + excess)
    return dict(zip(("quatern_b", "quatern_c", "quatern_d"), half, strict=True))


@pytest.mark.parametrize("excess", [0.0, 4e-7, 6e-6, 5e-4])
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
def test_a_quaternion_that_is_rounded_is_read_as_itk_reads_it(
    tmp_path: Path, kind: Any, excess: float
) -> None:
    path = save(tmp_path / "a.nii.gz", image(sform=0, kind=kind), **quaternion(image(), excess))
    volume = read_volume(path)
    assert np.linalg.det(volume.affine[:3, :3]) == pytest.approx(0.8 * 0.9 * 2.5, rel=1e-5)
    if kind is nib.Nifti1Image:
        np.testing.assert_allclose(volume.affine, itk_affine(path), atol=2e-3)
    out = tmp_path / "out.nii.gz"
    write_volume(volume, out)
    np.testing.assert_allclose(nib.load(out).affine, volume.affine, atol=2e-3)
    assert grid_difference(read_volume(out), volume) is None


@pytest.mark.parametrize(
    "fields",
    [
        {"quatern_b": 1.2},
        {"quatern_c": np.nan},
        {"qoffset_y": np.inf},
        {"pixdim": [1, 0.8, 0, 2.5, 1, 1, 1, 1]},
        {"pixdim": [1, 0.8, -0.9, 2.5, 1, 1, 1, 1]},
        {"pixdim": [1, np.nan, 0.9, 2.5, 1, 1, 1, 1]},
    ],
    ids=lambda fields: str(next(iter(fields))),
)
def test_a_qform_that_is_more_than_rounded_is_named(tmp_path: Path, fields: dict[str, Any]) -> None:
    path = save(tmp_path / "a.nii", image(sform=0), **fields)
    with pytest.raises(ImageError, match=r"geometry cannot be used \(qform") as refusal:
        read_volume(path)
    assert "copy it again" not in str(refusal.value)
    read_volume(save(tmp_path / "b.nii", image(), **fields))  # by its sform


@pytest.mark.parametrize("size", [0, -0.9, np.nan, np.inf])
def test_a_voxel_size_alone_must_be_one(tmp_path: Path, size: float) -> None:
    pixdim = [1, 0.8, size, 2.5, 1, 1, 1, 1]
    path = save(tmp_path / "a.nii", image(qform=0, sform=0), pixdim=pixdim)
    with pytest.raises(ImageError, match="no sform or qform, and pixdim gives voxels"):
        read_volume(path)


def test_an_axis_with_one_place_needs_no_size(tmp_path: Path) -> None:
    made = nib.Nifti1Image(ARRAY[:, :, :1], np.diag([2.0, 3, 4, 1]))
    path = save(
        tmp_path / "a.nii", made, pixdim=[1, 2, 3, 0, 1, 1, 1, 1], sform_code=0, qform_code=0
    )
    volume = read_volume(path)
    assert volume.spacing == (2, 3, 1)
    write_volume(volume, tmp_path / "b.nii")
    np.testing.assert_array_equal(nib.load(tmp_path / "b.nii").affine, volume.affine)


EMPTY = {f"srow_{axis}": [0, 0, 0, 0] for axis in "xyz"}
NEARLY = {f"srow_{axis}": np.eye(4)[row] * 1e-12 for row, axis in enumerate("xyz")}
NUMBERLESS = {f"srow_{axis}": [np.nan] * 4 for axis in "xyz"}
FLAT = {**EMPTY, "srow_x": [1, 0, 0, 0], "srow_y": [0, 1, 0, 0]}


@pytest.mark.parametrize("rows", [EMPTY, NEARLY, NUMBERLESS, FLAT])
def test_where_the_sform_spans_nothing_the_qform_counts(
    tmp_path: Path, rows: dict[str, Any]
) -> None:
    path = save(tmp_path / "a.nii", image(), **rows)
    volume = read_volume(path)
    np.testing.assert_allclose(volume.affine, affine(), atol=1e-5)
    write_volume(volume, tmp_path / "out.nii")
    np.testing.assert_allclose(nib.load(tmp_path / "out.nii").affine, affine(), atol=1e-5)
    with pytest.raises(ImageError, match=r"geometry cannot be used \(sform"):
        read_volume(save(tmp_path / "a.nii", image(qform=0), **rows))


def test_an_sform_of_other_voxel_sizes_than_the_header_s_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        read_volume(save(tmp_path / "a.nii", image()))
    assert not caplog.records
    path = save(tmp_path / "b.nii", image(), pixdim=[1, 0.4, 0.9, 2.5, 1, 1, 1, 1])
    with caplog.at_level(logging.WARNING):
        volume = read_volume(path)
    assert volume.spacing == pytest.approx((0.8, 0.9, 2.5))
    assert "b.nii: the sform gives voxels of [0.8, 0.9, 2.5], pixdim [0.4" in caplog.text


@pytest.mark.parametrize("code", [6, 256])
@pytest.mark.parametrize("name", ["qform_code", "sform_code"])
def test_a_code_that_is_not_known_keeps_its_form(tmp_path: Path, name: str, code: int) -> None:
    made = image(qform=name == "qform_code", sform=name == "sform_code")
    volume = read_volume(save(tmp_path / "a.nii", made, **{name: code}))
    np.testing.assert_allclose(volume.affine, affine(), atol=1e-5)
    write_volume(volume, tmp_path / "b.nii")
    np.testing.assert_allclose(nib.load(tmp_path / "b.nii").affine, affine(), atol=1e-5)


# --- axes


@pytest.mark.parametrize("shape", [(6, 5, 4, 1), (6, 5, 4, 1, 1), (6, 5, 4, 1, 1, 1, 1)])
def test_axes_with_one_place_are_kept_in_the_result(tmp_path: Path, shape: tuple[int, ...]) -> None:
    path = save(tmp_path / "a.nii.gz", image(ARRAY.reshape(shape)))
    volume, extent = read_volume(path, allow_4d=False), peek((path,))
    np.testing.assert_array_equal(volume.array[0], ARRAY)
    np.testing.assert_array_equal(read_label(path).array[0], ARRAY)
    assert extent is not None
    assert (extent.channels, extent.shape) == (1, (6, 5, 4))
    write_volume(volume.with_array(np.ones((1, 6, 5, 4), np.uint8)), tmp_path / "b.nii.gz")
    before, after = nib.load(path), nib.load(tmp_path / "b.nii.gz")
    assert after.shape == shape
    np.testing.assert_array_equal(after.affine, before.affine)
    np.testing.assert_array_equal(after.header["pixdim"], before.header["pixdim"])


@pytest.mark.parametrize("dim", [[4, 6, 5, 4, 0, 1, 1, 1], [5, 6, 5, 4, 1, 0, 1, 1]])
def test_an_axis_of_size_zero_is_none(tmp_path: Path, dim: list[int]) -> None:
    path = save(tmp_path / "a.nii", image(), dim=dim)
    volume = read_volume(path)
    np.testing.assert_array_equal(volume.array[0], ARRAY)
    peer = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    np.testing.assert_array_equal(volume.array[0], peer.squeeze().transpose(2, 1, 0))
    write_volume(volume, tmp_path / "b.nii")
    assert nib.load(tmp_path / "b.nii").shape == (6, 5, 4, 1, 1)[: dim[0]]
    with pytest.raises(ImageError, match="gives the size"):
        read_volume(save(tmp_path / "a.nii", image(), dim=[3, 6, 0, 4, 1, 1, 1, 1]))


@pytest.mark.parametrize("shape", [(6, 5, 4, 3), (6, 5, 4, 1, 3), (6, 5, 4, 1, 1, 3)])
def test_one_axis_behind_the_third_is_the_channels(tmp_path: Path, shape: tuple[int, ...]) -> None:
    array = np.arange(360, dtype=np.int16).reshape(6, 5, 4, 3)
    made = image(array.reshape(shape))
    made.header.set_intent("vector")
    path = save(tmp_path / "a.nii", made)
    volume, extent = read_volume(path), peek((path,))
    np.testing.assert_array_equal(volume.array, np.moveaxis(array, 3, 0))
    assert extent is not None
    assert extent.channels == 3
    with pytest.raises(ImageError, match="4D"):
        read_label(path)
    write_volume(volume.with_array(np.ones((1, 6, 5, 4), np.uint8)), tmp_path / "b.nii")
    after = nib.load(tmp_path / "b.nii")
    assert (after.shape, after.header.get_intent()[0]) == ((6, 5, 4), "none")


def test_time_points_of_vectors_are_refused(tmp_path: Path) -> None:
    array = np.zeros((6, 5, 4, 2, 3), np.int16)
    with pytest.raises(ImageError, match=r"has 5 axes \(6, 5, 4, 2, 3\)"):
        read_volume(save(tmp_path / "a.nii", image(array)))


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_volumes_that_the_header_does_not_count_are_not_passed_over(
    tmp_path: Path, name: str
) -> None:
    array = np.ones((6, 5, 4, 2), np.int16)
    path = save(tmp_path / name, image(array), dim=[3, 6, 5, 4, 2, 1, 1, 1])
    with pytest.raises(ImageError, match="holds more than its header says"):
        read_volume(path)
    path = save(tmp_path / name, image(), datatype=2, bitpix=8)  # 16 bits that are called 8
    with pytest.raises(ImageError, match="holds more than its header says"):
        read_volume(path)


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"datatype": 1}, "header that cannot be used"),
        ({"datatype": 9999}, "header that cannot be used"),
        ({"dim": [9, 6, 5, 4, 1, 1, 1, 1]}, r"dim\[0\] is 9"),
        ({"magic": b"ni1", "vox_offset": 0}, "no single NIfTI file"),
        ({"vox_offset": 1e12}, "header that cannot be used"),
        ({"vox_offset": 100}, "header that cannot be used"),
        ({"vox_offset": np.nan}, "header that cannot be used"),
        ({"scl_slope": 2.0, "scl_inter": np.nan}, "header that cannot be used"),
    ],
)
def test_other_numbers_that_cannot_be_used_are_named(
    tmp_path: Path, fields: dict[str, Any], text: str
) -> None:
    with pytest.raises(ImageError, match=text):
        read_volume(save(tmp_path / "a.nii", image(), **fields))


def test_line_ends_that_were_changed_are_found(tmp_path: Path) -> None:
    made = image(kind=nib.Nifti2Image)
    path = save(tmp_path / "a.nii", made, eol_check=[10, 26, 10, 0])
    with pytest.raises(ImageError, match="line ends were changed"):
        read_volume(path)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize(
    ("kind", "mark"), [(nib.Nifti1Image, b"ni1"), (nib.Nifti2Image, b"ni2\0\r\n\x1a\n")]
)
def test_one_file_with_the_mark_of_two_is_read(
    tmp_path: Path, name: str, kind: Any, mark: bytes
) -> None:
    path = save(tmp_path / name, image(kind=kind), magic=mark)
    volume = read_volume(path)
    np.testing.assert_array_equal(volume.array[0], ARRAY)
    np.testing.assert_allclose(volume.affine, affine(), atol=1e-5)
    write_volume(volume, tmp_path / "b.nii.gz")
    np.testing.assert_array_equal(nib.load(tmp_path / "b.nii.gz").get_fdata(), ARRAY)


def test_forms_that_point_elsewhere_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = nib.Nifti1Image(ARRAY, np.diag([1.0, 1, 1, 1]))
    made.set_qform(np.diag([-1.0, 1, 1, 1]), 1)
    made.set_sform(np.diag([1.0, 1, 1, 1]), 2)
    nib.save(made, tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(np.diag(read_volume(tmp_path / "a.nii.gz").affine), [1, 1, 1, 1])
    assert "point to RAS by the sform, and to LAS by the qform; the sform is taken" in caplog.text
    # That of an atlas lies elsewhere, and a turn by some degrees is no contradiction.
    caplog.clear()
    made = image()
    moved = affine()
    moved[:3, 3] += 40
    made.set_qform(moved, 1)
    nib.save(made, tmp_path / "b.nii.gz")
    read_volume(tmp_path / "b.nii.gz")
    assert not caplog.text
