"""NRRD and MetaImage: LPS becomes RAS by the affine, and back without rounding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from medseg_nca.errors import ImageError
from medseg_nca.io.read import read_volume
from medseg_nca.io.write import write_volume

NAMES = ["a.nrrd", "a.mha"]
TURN = (0.0, -1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0)


def save(path: Path, packed: bool = True, **shape: Any) -> Any:
    array = np.random.default_rng(0).integers(0, 900, (3, 4, 5)).astype(np.int16)  # z, y, x
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((0.7, 0.8, 2.5))
    image.SetOrigin((10.1, -20.2, 30.3))
    image.SetDirection(TURN)
    sitk.WriteImage(image, str(path), packed)
    return array


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_geometry_is_that_of_itk(tmp_path: Path, name: str, packed: bool) -> None:
    array = save(tmp_path / name, packed)
    volume = read_volume(tmp_path / name)
    np.testing.assert_array_equal(volume.array[0], array.transpose(2, 1, 0))
    image = sitk.ReadImage(str(tmp_path / name))
    index = (4, 2, 1)
    x, y, z = image.TransformIndexToPhysicalPoint(index)
    np.testing.assert_allclose(volume.affine @ [*index, 1], [-x, -y, z, 1], atol=1e-9)
    np.testing.assert_allclose(volume.spacing, (0.7, 0.8, 2.5))


@pytest.mark.parametrize("name", NAMES)
def test_a_label_map_has_exactly_the_grid_of_its_image(tmp_path: Path, name: str) -> None:
    save(tmp_path / name)
    volume = read_volume(tmp_path / name)
    labels = (volume.array > 400).astype(np.int64)
    write_volume(volume.with_array(labels), tmp_path / f"out_{name}")
    before = sitk.ReadImage(str(tmp_path / name))
    after = sitk.ReadImage(str(tmp_path / f"out_{name}"))
    assert after.GetOrigin() == before.GetOrigin()
    assert after.GetSpacing() == before.GetSpacing()
    assert after.GetDirection() == before.GetDirection()
    assert after.GetPixelIDTypeAsString() == "8-bit unsigned integer"


@pytest.mark.parametrize("other", ["b.nii.gz", "b.nrrd", "b.mha"])
@pytest.mark.parametrize("name", NAMES)
def test_another_format_keeps_the_geometry(tmp_path: Path, name: str, other: str) -> None:
    save(tmp_path / name)
    volume = read_volume(tmp_path / name)
    write_volume(volume, tmp_path / other)
    again = read_volume(tmp_path / other)
    np.testing.assert_array_equal(again.array, volume.array)
    np.testing.assert_allclose(again.affine, volume.affine, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(3, 4, 5, 6), (2, 4, 5)])
def test_channels_are_vector_pixels(tmp_path: Path, name: str, shape: tuple[int, ...]) -> None:
    save(tmp_path / name)
    volume = read_volume(tmp_path / name)
    array = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    affine = volume.affine if len(shape) == 4 else np.eye(4)
    volume = type(volume)(array, affine)
    write_volume(volume, tmp_path / name)
    again = read_volume(tmp_path / name)
    np.testing.assert_array_equal(again.array, array)
    np.testing.assert_allclose(again.affine, affine, atol=1e-9)


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_a_truncated_file_is_refused(tmp_path: Path, name: str, packed: bool) -> None:
    save(tmp_path / name, packed)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[:-20])
    with pytest.raises(ImageError, match=rf"{name}: .*truncated"):
        read_volume(tmp_path / name)


@pytest.mark.parametrize("name", NAMES)
def test_a_flipped_bit_in_packed_voxels_is_found(tmp_path: Path, name: str) -> None:
    save(tmp_path / name)
    content = bytearray((tmp_path / name).read_bytes())
    content[-30] ^= 0xFF
    (tmp_path / name).write_bytes(bytes(content))
    with pytest.raises(ImageError, match="damaged"):
        read_volume(tmp_path / name)


def test_an_absurd_size_is_refused(tmp_path: Path) -> None:
    save(tmp_path / "a.nrrd")
    save(tmp_path / "a.mha")
    for name, old, new in (
        ("a.nrrd", b"sizes: 5 4 3", b"sizes: 50000 40000 3"),
        ("a.mha", b"DimSize = 5 4 3", b"DimSize = 50000 40000 3"),
    ):
        content = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(content.replace(old, new))
        with pytest.raises(ImageError, match=f"{name}: .*claims 12,000,000,000 bytes"):
            read_volume(tmp_path / name)


def test_a_header_that_points_to_another_file_is_refused(tmp_path: Path) -> None:
    save(tmp_path / "a.mha", packed=False)
    content = (tmp_path / "a.mha").read_bytes()
    (tmp_path / "a.mha").write_bytes(
        content.replace(b"ElementDataFile = LOCAL", b"ElementDataFile = /etc/hostname")
    )
    with pytest.raises(ImageError, match="voxels lie in another file"):
        read_volume(tmp_path / "a.mha")


@pytest.mark.parametrize("name", NAMES)
def test_what_is_not_of_the_format_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("hello")
    with pytest.raises(ImageError, match=f"{name}: has no .* header"):
        read_volume(tmp_path / name)
