"""NIfTI: geometry and header survive; damaged files are refused."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from medseg_nca.errors import ImageError
from medseg_nca.io.read import read_image, read_label, read_volume
from medseg_nca.io.write import write_volume

OBLIQUE = np.array(
    [[-0.9, 0.1, 0.2, 31.25], [0.1, 1.1, 0.0, -40.5], [0.15, 0.0, 2.9, 7.125], [0, 0, 0, 1]]
)


def save(path: Path, array: Any, affine: Any = OBLIQUE, kind: Any = nib.Nifti1Image) -> Path:
    nib.save(kind(array, affine), path)
    return path


def random(*shape: int) -> Any:
    return np.random.default_rng(1).normal(100, 20, shape).astype(np.float32)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
def test_values_affine_and_spacing(tmp_path: Path, name: str, kind: Any) -> None:
    array = random(5, 6, 7)
    volume = read_volume(save(tmp_path / name, array, kind=kind))
    np.testing.assert_array_equal(volume.array[0], array)
    np.testing.assert_allclose(volume.affine, OBLIQUE, atol=1e-6)
    np.testing.assert_allclose(volume.spacing, np.linalg.norm(OBLIQUE[:3, :3], axis=0), rtol=1e-6)
    assert volume.sources == (tmp_path / name,)


def test_a_scaled_file_gives_the_scaled_values(tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.arange(24, dtype=np.int16).reshape(2, 3, 4), np.eye(4))
    image.header.set_slope_inter(0.5, -3)
    nib.save(image, tmp_path / "a.nii")
    stored = nib.load(tmp_path / "a.nii").get_fdata()
    volume = read_volume(tmp_path / "a.nii")
    assert volume.array.dtype == np.float32
    np.testing.assert_allclose(volume.array[0], stored)


def test_a_label_map_gets_the_header_of_its_image(tmp_path: Path) -> None:
    image = nib.Nifti1Image(random(4, 5, 6), OBLIQUE)
    image.set_qform(OBLIQUE, code=1)
    image.set_sform(OBLIQUE, code=4)
    image.header.set_xyzt_units("mm", "sec")
    image.header["descrip"] = b"a scan"
    image.header.set_slope_inter(2.0, 1.0)
    image.header["cal_max"] = 700.0
    nib.save(image, tmp_path / "a.nii.gz")
    volume = read_volume(tmp_path / "a.nii.gz")
    labels = np.arange(120).reshape(1, 4, 5, 6) % 3
    write_volume(volume.with_array(labels), tmp_path / "out.nii.gz")

    before, after = nib.load(tmp_path / "a.nii.gz").header, nib.load(tmp_path / "out.nii.gz").header
    for field in ("srow_x", "srow_y", "srow_z", "quatern_b", "qoffset_x", "pixdim", "xyzt_units",
                  "qform_code", "sform_code", "descrip"):  # fmt: skip
        np.testing.assert_array_equal(before[field], after[field], err_msg=field)
    assert after.get_data_dtype() == np.uint8
    assert after["cal_max"] == 0
    np.testing.assert_array_equal(read_label(tmp_path / "out.nii.gz").array, labels)


def test_a_header_without_codes_stays_without(tmp_path: Path) -> None:
    image = nib.Nifti1Image(random(4, 5, 6), None)
    image.header.set_zooms((1, 2, 3))
    nib.save(image, tmp_path / "a.nii")
    volume = read_volume(tmp_path / "a.nii")
    write_volume(volume, tmp_path / "b.nii")
    header = nib.load(tmp_path / "b.nii").header
    assert (int(header["qform_code"]), int(header["sform_code"])) == (0, 0)
    np.testing.assert_allclose(read_volume(tmp_path / "b.nii").affine, volume.affine)


def test_extensions_which_may_name_the_patient_are_not_copied(tmp_path: Path) -> None:
    image = nib.Nifti1Image(random(4, 5, 6), np.eye(4))
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"DOE^JANE"))
    nib.save(image, tmp_path / "a.nii")
    write_volume(read_volume(tmp_path / "a.nii"), tmp_path / "b.nii")
    assert b"DOE" in (tmp_path / "a.nii").read_bytes()
    assert b"DOE" not in (tmp_path / "b.nii").read_bytes()


def test_the_fourth_axis_is_the_channels_unless_one_volume_is_expected(tmp_path: Path) -> None:
    array = random(3, 4, 5, 2)
    path = save(tmp_path / "a.nii.gz", array)
    volume = read_volume(path)
    np.testing.assert_array_equal(volume.array, np.moveaxis(array, 3, 0))
    write_volume(volume, tmp_path / "b.nii.gz")
    np.testing.assert_array_equal(read_volume(tmp_path / "b.nii.gz").array, volume.array)
    with pytest.raises(ImageError, match=r"a\.nii\.gz: is 4D \(2 volumes"):
        read_volume(path, allow_4d=False)
    with pytest.raises(ImageError, match=r"a\.nii\.gz: is 4D"):
        read_image([path, path])
    with pytest.raises(ImageError, match=r"a\.nii\.gz: is 4D"):
        read_label(path)


def test_channels_in_several_files_must_share_a_grid(tmp_path: Path) -> None:
    first = save(tmp_path / "a.nii", random(3, 4, 5))
    second = save(tmp_path / "b.nii", random(3, 4, 5) + 1)
    assert read_image([first, second]).array.shape == (2, 3, 4, 5)
    moved = OBLIQUE.copy()
    moved[0, 3] += 2
    third = save(tmp_path / "c.nii", random(3, 4, 5), moved)
    with pytest.raises(ImageError, match=r"c\.nii: lies on another grid.*2 mm"):
        read_image([first, third])


@pytest.mark.parametrize("keep", [0.1, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_a_truncated_file_is_refused(tmp_path: Path, name: str, keep: float) -> None:
    content = save(tmp_path / name, random(20, 20, 20)).read_bytes()
    (tmp_path / name).write_bytes(content[: int(len(content) * keep)])
    with pytest.raises(ImageError, match=rf"{name}: .*truncated"):
        read_volume(tmp_path / name)


def test_a_flipped_bit_is_found_by_the_checksum(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii.gz", random(20, 20, 20))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x10
    path.write_bytes(bytes(content))
    with pytest.raises(ImageError, match="damaged"):
        read_volume(path)


def test_an_absurd_size_is_refused_before_memory_is_taken(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii", random(4, 4, 4))
    content = bytearray(path.read_bytes())
    content[40:48] = np.array([3, 30000, 30000, 30000], "<i2").tobytes()
    path.write_bytes(bytes(content))
    with pytest.raises(ImageError, match="claims 108,000,000,000,000 bytes"):
        read_volume(path)
    packed = tmp_path / "b.nii.gz"
    content[40:48] = np.array([3, 900, 900, 900], "<i2").tobytes()
    packed.write_bytes(gzip.compress(bytes(content)))
    with pytest.raises(ImageError, match="claims 2,916,000,000 bytes"):
        read_volume(packed)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_no_numbers_are_counted(tmp_path: Path, value: float) -> None:
    array = random(4, 4, 4)
    array[0, 0, :3] = value
    with pytest.raises(ImageError, match=r"a\.nii: 3 of 64 values are NaN or infinite"):
        read_volume(save(tmp_path / "a.nii", array))


def test_geometry_that_cannot_be_is_refused(tmp_path: Path) -> None:
    flat = np.diag([1.0, 1.0, 0.0, 1.0])
    image = nib.Nifti1Image(random(4, 4, 4), np.eye(4))
    image.header.set_sform(flat, code=1)
    path = tmp_path / "a.nii"
    image.to_filename(path)
    content = bytearray(path.read_bytes())
    content[280:328] = flat[:3].astype("<f4").tobytes()
    path.write_bytes(bytes(content))
    with pytest.raises(ImageError, match="geometry cannot be used"):
        read_volume(path)


def test_missing_empty_and_foreign_files(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"a\.nii: there is no such file"):
        read_volume(tmp_path / "a.nii")
    (tmp_path / "b.nii").touch()
    with pytest.raises(ImageError, match=r"b\.nii: is empty"):
        read_volume(tmp_path / "b.nii")
    (tmp_path / "c.nii.gz").write_text("hello")
    with pytest.raises(ImageError, match=r"c\.nii\.gz: cannot be read"):
        read_volume(tmp_path / "c.nii.gz")
    (tmp_path / "d.docx").write_text("hello")
    with pytest.raises(ImageError, match=r"d\.docx: is not of a known format"):
        read_volume(tmp_path / "d.docx")


def test_labels_are_whole_numbers(tmp_path: Path) -> None:
    labels = np.zeros((3, 3, 3), np.float32)
    labels[1] = 2
    assert read_label(save(tmp_path / "a.nii", labels)).array.dtype == np.int32
    labels[1, 1, 1] = 1.5
    with pytest.raises(ImageError, match=r"b\.nii: holds 1\.5; a label map has whole numbers"):
        read_label(save(tmp_path / "b.nii", labels))


def test_a_slice_is_2d(tmp_path: Path) -> None:
    volume = read_volume(save(tmp_path / "a.nii", random(4, 5)))
    assert volume.dims == 2
    write_volume(volume, tmp_path / "b.nii")
    np.testing.assert_array_equal(read_volume(tmp_path / "b.nii").array, volume.array)
