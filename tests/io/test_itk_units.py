"""Units of length in the headers of NRRD and MetaImage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from medseg_nca.errors import ImageError
from medseg_nca.io.grid import grid_difference
from medseg_nca.io.peek import peek
from medseg_nca.io.read import read_label, read_volume
from medseg_nca.io.write import write_volume


def save(path: Path, scale: float, line: str, dims: int = 3) -> Path:
    """An image of 0.7 x 0.8 x 2.5 mm in another unit, with a line about it in its header."""
    array = np.random.default_rng(0).integers(0, 3, (4, 5, 6)[-dims:]).astype(np.uint8)
    image: Any = sitk.GetImageFromArray(array)
    image.SetSpacing([size * scale for size in (0.7, 0.8, 2.5)[:dims]])
    image.SetOrigin([place * scale for place in (10, -20, 30)[:dims]])
    sitk.WriteImage(image, str(path))
    mark = b"\n\n" if path.suffix == ".nrrd" else b"\nElementDataFile"
    content = path.read_bytes()
    path.write_bytes(content.replace(mark, b"\n" + line.encode() + mark, 1))
    return path


def three(word: str, field: str = "space units") -> str:
    return f'{field}: "{word}" "{word}" "{word}"'


CASES = [
    ("a.nrrd", 1, three("mm")),
    ("a.nrrd", 1000, three("um")),
    ("a.nrrd", 1000, three("\u00b5m")),
    ("a.nrrd", 1000, three("microns")),
    ("a.nrrd", 1000, three("Micrometers")),
    ("a.nrrd", 0.1, three("cm")),
    ("a.nrrd", 0.001, three("m")),
    ("a.nrrd", 0.001, three("metres")),
    ("a.nrrd", 1e6, three("nm")),
    ("a.nrrd", 1 / 25.4, three("inches")),
    ("a.nrrd", 1, three("")),
    ("a.mha", 1, "DistanceUnits = mm"),
    ("a.mha", 1000, "DistanceUnits = um"),
    ("a.mha", 0.1, "DistanceUnits = cm"),
    ("a.mha", 1, "DistanceUnits = ?"),
]


@pytest.mark.parametrize(("name", "scale", "line"), CASES)
def test_lengths_are_millimetres_and_results_lie_on_their_images(
    tmp_path: Path, name: str, scale: float, line: str
) -> None:
    path = save(tmp_path / name, scale, line)
    volume, extent = read_volume(path), peek((path,))
    np.testing.assert_allclose(volume.spacing, (0.7, 0.8, 2.5))
    np.testing.assert_allclose(volume.affine[:3, 3], (-10, 20, 30))
    assert extent is not None
    np.testing.assert_array_equal(extent.affine, volume.affine)
    out = tmp_path / f"out{path.suffix}"
    write_volume(volume.with_array(np.ones_like(volume.array)), out)
    before, after = sitk.ReadImage(str(path)), sitk.ReadImage(str(out))
    np.testing.assert_allclose(after.GetSpacing(), before.GetSpacing(), rtol=1e-14)
    np.testing.assert_allclose(after.GetOrigin(), before.GetOrigin(), rtol=1e-14)
    assert grid_difference(read_label(out), volume) is None
    write_volume(volume, tmp_path / "b.nii.gz")
    np.testing.assert_allclose(read_volume(tmp_path / "b.nii.gz").affine, volume.affine, atol=1e-5)


def test_two_axes(tmp_path: Path) -> None:
    volume = read_volume(save(tmp_path / "a.nrrd", 1000, 'space units: "um" "um"', dims=2))
    np.testing.assert_allclose(volume.spacing, (0.7, 0.8))


@pytest.mark.parametrize(
    ("name", "line", "said"),
    [
        ("a.nrrd", three("pixels"), "'pixels' (space units)"),
        ("a.nrrd", three("s"), "'s' (space units)"),
        ("a.nrrd", 'space units: "mm" "mm" "um"', "axes in different units"),
        ("a.nrrd", three("um", "units"), "can't have min, max, spacing, or units set"),
        ("a.mha", "DistanceUnits = furlong", "'furlong' (DistanceUnits)"),
    ],
)
def test_what_is_no_length_is_refused(tmp_path: Path, name: str, line: str, said: str) -> None:
    path = save(tmp_path / name, 1, line)
    with pytest.raises(ImageError) as refusal:
        read_volume(path)
    assert said in str(refusal.value)
    assert peek((path,)) is None


def test_a_time_axis_has_a_unit_of_its_own(tmp_path: Path) -> None:
    array = np.arange(240, dtype="<i2")
    head = ("NRRD0004\ntype: short\ndimension: 4\nsizes: 6 5 4 2\nspacings: 700 800 2500 2\n"
            'units: "um" "um" "um" "s"\nkinds: domain domain domain time\nendian: little\n'
            "encoding: raw\n\n")  # fmt: skip
    (tmp_path / "a.nrrd").write_bytes(head.encode() + array.tobytes())
    volume = read_volume(tmp_path / "a.nrrd")
    assert volume.array.shape == (2, 6, 5, 4)
    np.testing.assert_allclose(volume.spacing, (0.7, 0.8, 2.5))
    write_volume(volume.with_array(np.ones((1, 6, 5, 4), np.uint8)), tmp_path / "b.nrrd")
    assert grid_difference(read_label(tmp_path / "b.nrrd"), volume) is None
    assert sitk.ReadImage(str(tmp_path / "b.nrrd")).GetSpacing() == (700, 800, 2500)


@pytest.mark.parametrize("places", [1, 2])
def test_a_fourth_axis_of_a_metaimage(tmp_path: Path, places: int) -> None:
    array = np.arange(120 * places, dtype=np.int16).reshape(places, 4, 5, 6)
    image = sitk.GetImageFromArray(array, isVector=False)
    image.SetSpacing((0.7, 0.8, 2.5, 30.0))
    sitk.WriteImage(image, str(tmp_path / "a.mha"))
    volume = read_volume(tmp_path / "a.mha")
    np.testing.assert_array_equal(volume.array, array.transpose(0, 3, 2, 1))
    label = volume.with_array(np.ones((1, 6, 5, 4), np.uint8))
    write_volume(label, tmp_path / "b.mha")
    size = sitk.ReadImage(str(tmp_path / "b.mha")).GetSize()
    assert size == ((6, 5, 4, 1) if places == 1 else (6, 5, 4))
    assert grid_difference(read_label(tmp_path / "b.mha"), label) is None
