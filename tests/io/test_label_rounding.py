"""Labels that are whole numbers up to a rounding, and values that are none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from medseg_nca.errors import ImageError
from medseg_nca.io.read import read_label


def labels(most: int) -> Any:
    values = np.random.default_rng(2).integers(0, most + 1, (9, 8, 7))
    values[0, 0, 0], values[1, 0, 0] = 0, most
    return values


@pytest.mark.parametrize(
    ("stored", "most"),
    [
        *((np.uint8, most) for most in (1, 2, 3, 14)),
        *((kind, most) for kind in (np.uint16, np.int16, np.int32) for most in (1, 2, 255, 2035)),
    ],
)
def test_labels_that_nibabel_scaled_are_their_whole_numbers(
    tmp_path: Path, stored: Any, most: int
) -> None:
    values = labels(most)
    made = nib.Nifti1Image(values.astype(np.float64), np.eye(4))
    made.set_data_dtype(stored)  # nibabel spreads the values over the whole type
    nib.save(made, tmp_path / "a.nii.gz")
    assert nib.load(tmp_path / "a.nii.gz").dataobj.slope != 1
    label = read_label(tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(label.array[0], values)
    assert label.array.dtype == np.int32


@pytest.mark.parametrize(("slope", "inter"), [(0.001, 1), (0.1, -2), (1 / 3, 0), (-1, 255)])
def test_slope_and_intercept_as_other_programs_write_them(
    tmp_path: Path, slope: float, inter: float
) -> None:
    values = labels(2)
    stored = np.rint((values - inter) / slope).astype(np.int16)
    made = nib.Nifti1Image(stored, np.eye(4))
    made.header.set_slope_inter(slope, inter)
    nib.save(made, tmp_path / "a.nii")
    np.testing.assert_array_equal(read_label(tmp_path / "a.nii").array[0], values)


@pytest.mark.parametrize("name", ["a.mha", "a.nrrd", "a.nii"])
@pytest.mark.parametrize("error", [1e-7, -3e-5, 9e-4])
def test_reals_near_whole_numbers_are_labels(tmp_path: Path, name: str, error: float) -> None:
    values = labels(3)
    image = sitk.GetImageFromArray((values + error).astype(np.float32).transpose(2, 1, 0))
    sitk.WriteImage(image, str(tmp_path / name))
    np.testing.assert_array_equal(read_label(tmp_path / name).array[0], values)


@pytest.mark.parametrize(
    ("value", "shown"), [(1.002, "1.002"), (0.9975, "0.9975"), (2.5, "2.5"), (1.00125, "1.00125")]
)
@pytest.mark.parametrize("name", ["a.mha", "a.nii"])
def test_the_digits_that_differ_are_shown(
    tmp_path: Path, name: str, value: float, shown: str
) -> None:
    array = labels(2).astype(np.float32)
    array[4, 4, 4], array[5, 5, 5] = value, 1.0004
    sitk.WriteImage(sitk.GetImageFromArray(array), str(tmp_path / name))
    with pytest.raises(ImageError, match=f"holds {shown}; a label map has whole numbers"):
        read_label(tmp_path / name)


@pytest.mark.parametrize("slope", [0.25, 0.3, 0.5])
def test_interpolated_labels_are_none_however_coarse_the_scale(
    tmp_path: Path, slope: float
) -> None:
    made = nib.Nifti1Image(np.arange(504, dtype=np.int16).reshape(9, 8, 7) % 9, np.eye(4))
    made.header.set_slope_inter(slope, 0)
    nib.save(made, tmp_path / "a.nii")
    with pytest.raises(ImageError, match="a label map has whole numbers"):
        read_label(tmp_path / "a.nii")


def test_an_intercept_of_a_half_makes_no_labels(tmp_path: Path) -> None:
    made = nib.Nifti1Image(labels(3).astype(np.int16), np.eye(4))
    made.header.set_slope_inter(1, 0.5)
    nib.save(made, tmp_path / "a.nii")
    with pytest.raises(ImageError, match=r"holds 0\.5"):
        read_label(tmp_path / "a.nii")
