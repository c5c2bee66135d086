"""Arrays and affines are those of dcm2niix, on real and on synthetic series."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray

from medseg_nca.io.dicom.read import find_stack, read_stack
from medseg_nca.io.dicom.scan import scan
from medseg_nca.io.dicom.series.turn import as_dcm2niix
from medseg_nca.io.volume import Volume
from tests.io.dicom import build

pytestmark = pytest.mark.peer

PLACES = {
    "axial": build.affine(),
    "sagittal": build.affine(degrees=(0, 90, 0)) @ np.diag([1, -1, 1, 1]),
    "sagittal as usual": build.affine(degrees=(90, 0, 90)),
    "coronal": build.affine(degrees=(-90, 0, 0)),
    "oblique": build.OBLIQUE,
    "very oblique": build.affine((0.8, 1.1, 3.0), degrees=(40, -35, 30)),
    "turned": build.affine((0.8, 1.1, 3.0), degrees=(120, -60, 75)),
}
REAL = (
    "compressed_j2k", "compressed_jpeg", "compressed_rle", "ct_with_seg/ct", "ge_mr",
    "ge_single_slice", "generic_mr", "non_isotropic", "philips_mr", "siemens_enhanced",
)  # fmt: skip


def convert(folder: Path, out: Path) -> list[nib.Nifti1Image]:
    """What dcm2niix makes of a folder, in the order of file names."""
    dcm2niix = pytest.importorskip("dcm2niix", reason="pip install dcm2niix")
    out.mkdir()
    command = [dcm2niix.bin, "-z", "n", "-b", "n", "-f", "v", "-o", str(out), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    files = sorted(out.glob("*.nii"))
    assert files, done.stdout + done.stderr
    return [nib.load(file) for file in files]


def read(folder: Path, select: str | None = None) -> Volume:
    series, stack = find_stack(scan(folder), select=select)
    return as_dcm2niix(read_stack(series, stack), series, stack)


def assert_same(volume: Volume, image: nib.Nifti1Image) -> None:
    expected = np.asanyarray(image.dataobj)
    assert volume.shape == expected.shape
    np.testing.assert_allclose(volume.affine, image.affine, atol=1e-3)
    np.testing.assert_allclose(volume.array[0], expected, rtol=1e-6, atol=1e-4)


@pytest.mark.parametrize("name", REAL)
def test_real_series(name: str, shared_data: Callable[[str], Path], tmp_path: Path) -> None:
    folder = shared_data("dicom") / name
    (image,) = convert(folder, tmp_path / "out")
    assert_same(read(folder), image)


@pytest.mark.parametrize("name", ["CT_small.dcm", "MR_small.dcm", "MR_small_RLE.dcm"])
def test_single_slices_of_pydicom(name: str, tmp_path: Path) -> None:
    import shutil

    from pydicom.data import get_testdata_file

    (tmp_path / "in").mkdir()
    shutil.copy(str(get_testdata_file(name, download=False)), tmp_path / "in")
    (image,) = convert(tmp_path / "in", tmp_path / "out")
    assert_same(read(tmp_path / "in"), image)


def shuffled(datasets: list[Any]) -> list[Any]:
    """Neither file names nor instance numbers tell the order."""
    numbers = random.Random(5).sample(range(1, 1 + len(datasets)), len(datasets))
    for dataset, number in zip(datasets, numbers, strict=True):
        dataset.InstanceNumber = number
    return random.Random(6).sample(datasets, len(datasets))


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("form", ["CT", "MR", "PT", "MR 3D", "enhanced CT", "enhanced MR 3D"])
@pytest.mark.parametrize("place", PLACES)
def test_synthetic_series(place: str, form: str, backwards: bool, tmp_path: Path) -> None:
    affine = PLACES[place] @ np.diag([1, 1, -1 if backwards else 1, 1])
    pixels = build.pixels((5, 8, 6), seed=len(place))
    modality = form.removeprefix("enhanced ")[:2]
    tags: dict[str, Any] = {"MRAcquisitionType": "3D" if form.endswith("3D") else "2D"}
    tags = tags if modality == "MR" else {}
    if form.startswith("enhanced"):
        order = [3, 1, 0, 4, 2]
        datasets = [build.enhanced(pixels, affine, modality=modality, order=order, **tags)]
    else:
        datasets = shuffled(build.classic(pixels, affine, modality=modality, **tags))
    build.write(tmp_path / "in", datasets)
    (image,) = convert(tmp_path / "in", tmp_path / "out")
    assert_same(read(tmp_path / "in"), image)


def test_slopes_that_differ_by_slice(tmp_path: Path) -> None:
    pixels = build.pixels((4, 8, 6), dtype="uint16")
    datasets = build.classic(pixels, modality="PT", slope=[0.5, 1.25, 2, 4.125])
    build.write(tmp_path / "in", shuffled(datasets))
    (image,) = convert(tmp_path / "in", tmp_path / "out")
    assert_same(read(tmp_path / "in"), image)


def test_echoes_are_volumes_of_their_own(tmp_path: Path) -> None:
    for echo in (1, 2):
        datasets = build.classic(
            build.pixels((4, 8, 6), seed=echo), build.OBLIQUE, modality="MR",
            EchoNumbers=echo, EchoTime=str(10 * echo),
        )  # fmt: skip
        for k, dataset in enumerate(datasets):
            dataset.SOPInstanceUID = build.uid(echo, k)
            dataset.InstanceNumber = 4 * (echo - 1) + k + 1
        build.write(tmp_path / "in", datasets, name=f"{echo}-{{}}.dcm")
    images = convert(tmp_path / "in", tmp_path / "out")
    assert len(images) == 2
    for echo, image in enumerate(images, 1):
        assert_same(read(tmp_path / "in", f"Stack=echo-{echo}"), image)


def test_times_are_the_volumes_of_a_4d_file(tmp_path: Path) -> None:
    for time in (1, 2, 3):
        datasets = build.classic(
            build.pixels((4, 8, 6), seed=time), build.OBLIQUE, modality="MR",
            TemporalPositionIdentifier=time, NumberOfTemporalPositions=3,
            AcquisitionTime=f"1011{time:02d}", MRAcquisitionType="3D", AcquisitionNumber=time,
        )  # fmt: skip
        for k, dataset in enumerate(datasets):
            dataset.SOPInstanceUID = build.uid(time, k)
            dataset.InstanceNumber = 4 * (time - 1) + k + 1
        build.write(tmp_path / "in", datasets, name=f"{time}-{{}}.dcm")
    (image,) = convert(tmp_path / "in", tmp_path / "out")
    for time in (1, 2, 3):
        assert_same(read(tmp_path / "in", f"Stack=time-{time}"), image.slicer[..., time - 1])


def sheared(degrees: float) -> NDArray[np.float64]:
    affine = build.affine((0.9, 0.9, 2.5))
    affine[1, 2] = 2.5 * np.tan(np.radians(degrees))
    return affine


def moved_along_the_table(degrees: float) -> NDArray[np.float64]:
    """As scanners write it: the planes are tilted, the table moves along z."""
    affine = build.affine((0.9, 0.9, 2.5), degrees=(degrees, 0, 0))
    affine[:3, 2] = [0, 0, 2.5]
    return affine


# Where it adds rows before the first one, the origin that dcm2niix 1.0.20260724 writes is not on
# the line of its own rows; so only tilts of one sign are compared in the second form.
@pytest.mark.parametrize(
    ("form", "degrees"), [(sheared, 18.0), (sheared, -9.0), (moved_along_the_table, -22.0)]
)
def test_a_tilted_gantry(
    form: Callable[[float], NDArray[np.float64]], degrees: float, tmp_path: Path
) -> None:
    affine = form(degrees)
    rows, columns = np.mgrid[:24, :10]
    pixels = np.stack([200 + 5 * rows + 3 * columns + k for k in range(6)]).astype("int16")
    build.write(tmp_path / "in", build.classic(pixels, affine, GantryDetectorTilt=str(degrees)))
    _, upright = convert(tmp_path / "in", tmp_path / "out")
    volume = read(tmp_path / "in")
    assert volume.spacing == pytest.approx(upright.header.get_zooms(), abs=1e-3)
    np.testing.assert_allclose(volume.affine[:3, :3], upright.affine[:3, :3], atol=1e-3)
    ours, theirs = _on_common_voxels(volume, upright)
    # Both fill with the lowest value and interpolate linearly along y.
    inside = (theirs > theirs.min()) & (ours > ours.min())
    assert inside.sum() > 0.85 * pixels.size
    assert np.abs(ours[inside] - theirs[inside]).max() <= 3


def _on_common_voxels(volume: Volume, image: nib.Nifti1Image) -> tuple[NDArray[Any], NDArray[Any]]:
    """Cut both to the rows that both have; their grids differ by whole voxels at most."""
    shift = np.linalg.inv(volume.affine) @ image.affine
    start = np.rint(shift[:3, 3]).astype(int)
    np.testing.assert_allclose(shift[:3, 3], start, atol=1e-3)
    theirs = np.asanyarray(image.dataobj).astype(float)
    low = np.maximum(start, 0)
    high = np.minimum(np.array(volume.shape), start + theirs.shape)
    ours = volume.array[0][tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
    cut = tuple(slice(a, b) for a, b in zip(low - start, high - start, strict=True))
    return ours.astype(float), theirs[cut]
