"""A volume of any format as a DICOM series: every voxel at its place with its value."""

from __future__ import annotations

import itertools
import shutil
import subprocess
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
from scipy.spatial.transform import Rotation

from medseg_nca.errors import OutputError
from medseg_nca.io.dicom.objects.export import write_series
from medseg_nca.io.dicom.objects.values import is_uid
from medseg_nca.io.dicom.read import read_dicom
from medseg_nca.io.volume import Volume

FLIPS = list(itertools.product((1, -1), repeat=3))


def _affine(flips: tuple[int, ...], angles: tuple[float, ...] = (20, -15, 10)) -> np.ndarray:
    affine = np.eye(4)
    turn = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    affine[:3, :3] = turn @ np.diag(np.multiply((0.7, 1.3, 2.1), flips))
    affine[:3, 3] = (-12.3, 45.6, 7.8)
    return affine


def _canonical(array: np.ndarray, affine: np.ndarray) -> nib.Nifti1Image:
    return nib.as_closest_canonical(nib.Nifti1Image(array.astype(np.float64), affine))


def _assert_same(got: Volume, wanted: Volume, atol: float) -> None:
    """The same values at the same places, whatever way the arrays run."""
    one, two = (_canonical(v.array[0], v.affine) for v in (got, wanted))
    np.testing.assert_allclose(one.affine, two.affine, atol=1e-4)
    np.testing.assert_allclose(one.get_fdata(), two.get_fdata(), atol=atol)


@pytest.mark.parametrize("flips", FLIPS, ids=str)
@pytest.mark.parametrize("angles", [(0, 0, 0), (20, -15, 10), (90, 5, 80)], ids=str)
def test_every_voxel_keeps_its_place(
    tmp_path: Path, flips: tuple[int, ...], angles: tuple[float, ...]
) -> None:
    array = np.random.default_rng(0).integers(-900, 3000, (1, 5, 6, 4))
    volume = Volume(array, _affine(flips, angles))
    write_series(volume, tmp_path / "s", modality="CT")
    _assert_same(read_dicom([tmp_path / "s"]), volume, 0)


@pytest.mark.parametrize(
    ("array", "exact"),
    [
        (np.arange(120.0).reshape(1, 5, 6, 4), True),
        (np.arange(120).reshape(1, 5, 6, 4).astype(np.uint16) + 65000, True),
        (np.arange(120).reshape(1, 5, 6, 4) - 32768, True),
        (np.zeros((1, 5, 6, 4), bool), True),
        (np.full((1, 5, 6, 4), 0.37, np.float32), False),
        (np.linspace(-1e-6, 2e-6, 120).reshape(1, 5, 6, 4), False),
        (np.linspace(-5e8, 9e8, 120).reshape(1, 5, 6, 4), False),
        (np.arange(120).reshape(1, 5, 6, 4) * 1000, False),
    ],
    ids=["floats", "uint16", "int16", "bool", "constant", "tiny", "huge", "beyond 16 bit"],
)
@pytest.mark.parametrize("modality", ["MR", "CT"])
def test_values_are_kept(tmp_path: Path, array: np.ndarray, exact: bool, modality: str) -> None:
    volume = Volume(array, _affine((1, 1, 1)))
    write_series(volume, tmp_path / "s", modality=modality)
    extent = float(array.max()) - float(array.min())
    _assert_same(read_dicom([tmp_path / "s"]), volume, 0 if exact else max(extent * 1e-5, 1e-7))
    first = pydicom.dcmread(tmp_path / "s" / "0001.dcm")
    if exact and modality == "MR":
        assert "RescaleSlope" not in first


def test_the_same_seed_gives_the_same_uids(tmp_path: Path) -> None:
    volume = Volume(np.zeros((1, 3, 3, 2)), np.eye(4))
    uids = []
    for name, seed in (("a", "x"), ("b", "x"), ("c", "y"), ("d", None), ("e", None)):
        headers = [pydicom.dcmread(p) for p in write_series(volume, tmp_path / name, seed=seed)]
        uids.append([(h.SOPInstanceUID, h.SeriesInstanceUID, h.StudyInstanceUID) for h in headers])
        assert all(is_uid(uid) for triple in uids[-1] for uid in triple)
        assert len({triple[0] for triple in uids[-1]}) == 2
    assert uids[0] == uids[1]
    assert len({str(u) for u in uids}) == 4


def test_pictures_are_shown_as_usual(tmp_path: Path) -> None:
    paths = write_series(Volume(np.zeros((1, 3, 4, 5)), np.eye(4)), tmp_path / "axial")
    first, last = pydicom.dcmread(paths[0]), pydicom.dcmread(paths[-1])
    assert list(first.ImageOrientationPatient) == [1, 0, 0, 0, 1, 0]
    assert (first.Rows, first.Columns) == (4, 3)
    assert first.ImagePositionPatient[2] < last.ImagePositionPatient[2]
    assert (first.InstanceNumber, last.InstanceNumber) == (1, 5)


@pytest.mark.parametrize(
    ("array", "affine", "word"),
    [
        (np.zeros((2, 3, 3, 3)), np.eye(4), "one channel"),
        (np.full((1, 3, 3, 3), np.nan), np.eye(4), "NaN"),
        (np.zeros((1, 3, 3, 3)), np.eye(4) + np.eye(4, k=1) * 0.2, "right angles"),
    ],
    ids=["channels", "nan", "skewed"],
)
def test_what_dicom_cannot_hold_is_refused(
    tmp_path: Path, array: np.ndarray, affine: np.ndarray, word: str
) -> None:
    with pytest.raises(OutputError, match=word):
        write_series(Volume(array, affine), tmp_path / "s")
    assert not (tmp_path / "s").exists()


def test_a_folder_in_use_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "mine.txt").write_text("x")
    with pytest.raises(OutputError, match="is there already"):
        write_series(Volume(np.zeros((1, 3, 3, 3)), np.eye(4)), tmp_path / "s")
    assert [p.name for p in (tmp_path / "s").iterdir()] == ["mine.txt"]


@pytest.mark.peer
@pytest.mark.parametrize("flips", FLIPS[:4], ids=str)
@pytest.mark.parametrize("modality", ["MR", "CT"])
def test_dcm2niix_and_dciodvfy_agree(tmp_path: Path, flips: tuple[int, ...], modality: str) -> None:
    program = _dcm2niix()
    random = np.random.default_rng(1)
    array = random.normal(size=(1, 9, 11, 6)) * 100 if modality == "MR" else None
    array = random.integers(-900, 2000, (1, 9, 11, 6)) if array is None else array
    volume = Volume(array, _affine(flips))
    paths = write_series(volume, tmp_path / "s", modality=modality)
    (tmp_path / "n").mkdir()
    subprocess.run(
        [program, "-f", "x", "-o", tmp_path / "n", tmp_path / "s"], check=True, capture_output=True
    )
    (file,) = (tmp_path / "n").glob("*.nii")
    image = nib.load(file)
    theirs = Volume(np.asarray(image.get_fdata())[None], image.affine)
    _assert_same(theirs, volume, 0.01 if modality == "MR" else 0)
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy is not installed (Debian: dicom3tools)")
    said = subprocess.run(["dciodvfy", paths[0]], capture_output=True, text=True)
    assert "Error" not in said.stdout + said.stderr


def _dcm2niix() -> str:
    try:
        import dcm2niix
    except ImportError:
        pytest.skip("dcm2niix is not installed: pip install medseg-nca[peers]")
    return str(dcm2niix.bin)
