"""The volumes of ``faults/images`` give what their READMEs call right.

Every fault stands in tests/io as well, with its siblings, rebuilt by code.
"""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from click.testing import CliRunner, Result

from medseg_nca.cli.main import cli
from medseg_nca.errors import ImageError
from medseg_nca.io.read import read_label, read_volume

Shared = Callable[[str], Path]


@pytest.fixture
def fault(shared_data: Shared) -> Callable[[str], Path]:
    """``fault("08-nifti-units")`` is that folder."""
    return lambda name: shared_data("faults") / "images" / name


def run(*args: object) -> Result:
    result = CliRunner().invoke(cli, [str(arg) for arg in args])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def checked(folder: Path, image: Path, label: Path) -> Any:
    """The report of ``data check`` on one case."""
    for kind, file in (("images", image), ("labels", label)):
        (folder / kind).mkdir(parents=True)
        shutil.copy(file, folder / kind / f"a{''.join(file.suffixes)}")
    run("data", "check", folder, "--json", folder / "report.json")
    return json.loads((folder / "report.json").read_text())


def counted(report: Any) -> dict[str, int]:
    (case,) = report["cases"]
    voxels: dict[str, int] = case["voxels"]
    return voxels


VOXELS = {"0": 59527, "1": 1324, "2": 1624}


def test_01_a_metaimage_without_the_size_of_its_stream(
    fault: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = fault("01-mha-without-compressed-size")
    assert counted(checked(tmp_path / "a", folder / "image.mha", folder / "label.mha")) == VOXELS
    with_size = read_label(folder / "label_with_size.mha").array
    for _ in range(3):
        np.testing.assert_array_equal(read_label(folder / "label.mha").array, with_size)


@pytest.mark.slow
def test_08_microns_are_measured_in_millimetres(
    fault: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = fault("08-nifti-units")
    shutil.copytree(folder, tmp_path / "mm", copy_function=shutil.copyfile)
    for path in (tmp_path / "mm").rglob("*.nii.gz"):
        image: Any = nib.load(path)
        grid = image.affine.copy()
        grid[:3] /= 1000
        again = nib.Nifti1Image(np.asarray(image.dataobj), grid)
        again.header.set_xyzt_units("mm")
        nib.save(again, path)
    found = []
    for data in (folder, tmp_path / "mm"):
        out = tmp_path / f"out{len(found)}"
        done = run("evaluate", "--model", "zoo:hippocampus", "--data", data, "--split", "all",
                   "--out", out)  # fmt: skip
        assert done.exit_code == 0, done.output
        rows = csv.DictReader((out / "metrics.csv").read_text().splitlines())
        found.append([{key: row[key] for key in row if key != "seconds"} for row in rows])
    assert found[0] == found[1]
    assert {float(row["hd95"]) < 2 for row in found[0]} == {True}
    assert read_volume(next((folder / "imagesTr").iterdir())).spacing == (1, 1, 1)


@pytest.mark.parametrize("name", ["label.nii.gz", "label_slope_inter.nii.gz"])
def test_09_scaled_labels(fault: Callable[[str], Path], tmp_path: Path, name: str) -> None:
    folder = fault("09-scaled-label")
    report = checked(tmp_path / "a", folder / "image.nii.gz", folder / name)
    assert counted(report) == VOXELS
    assert {finding["code"] for finding in report["findings"]} <= {"few_patients"}
    right = read_label(folder / "right.nii.gz").array
    np.testing.assert_array_equal(read_label(folder / name).array, right)


def test_12_a_quaternion_that_is_rounded(fault: Callable[[str], Path], tmp_path: Path) -> None:
    image = fault("12-quaternion-rounding") / "image.nii.gz"
    done = run("predict", "--model", "zoo:hippocampus", "--out", tmp_path, image)
    assert done.exit_code == 0, done.output
    np.testing.assert_allclose(
        nib.load(tmp_path / "image.nii.gz").affine, read_volume(image).affine, atol=1e-4
    )


def test_13_bytes_behind_a_gzip_member(fault: Callable[[str], Path]) -> None:
    label = read_label(fault("13-gz-trailing-bytes") / "label.nii.gz")
    values, counts = np.unique(label.array, return_counts=True)
    assert dict(zip(map(str, values), counts, strict=True)) == VOXELS


def test_16_small_messages(fault: Callable[[str], Path], tmp_path: Path) -> None:
    folder = fault("16-small-messages")
    done = run("predict", "--model", "zoo:hippocampus", "--out", tmp_path, folder)
    assert done.exit_code == 3
    assert "2 of 6 inputs failed" in done.stderr
    for name, words in (("bzip2.nrrd", "bzip2"), ("plain.nii.gz", "Rename it to plain.nii.")):
        with pytest.raises(ImageError, match=words) as refusal:
            read_volume(folder / name)
        assert "copy it again" not in str(refusal.value)
    shapes = {
        "4d_one_volume.nii.gz": (35, 51, 35, 1),
        "six_axes.nii.gz": (35, 51, 35, 1, 1, 1),
        "sform_zero_qform_good.nii.gz": (35, 51, 35),
    }
    for name, shape in shapes.items():
        result = nib.load(tmp_path / name)
        assert result.shape == shape
        np.testing.assert_allclose(result.affine, read_volume(folder / name).affine, atol=1e-6)
    assert (tmp_path / "compresseddata_is_1.mha").is_file()
