"""The faults of DICOM images that others reported: bits and units, splitting, stray files.

Each folder of ``faults/dicom`` holds the input; tests under ``tests/io/dicom`` and
``tests/pipelines`` build the same kinds, and their siblings, without it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from click.testing import CliRunner, Result
from numpy.typing import NDArray

from medseg_nca.cli.main import cli

Find = Callable[[str], Path]


def run(*args: object) -> Result:
    return CliRunner().invoke(cli, [str(arg) for arg in args])


@pytest.fixture
def fault(shared_data: Find) -> Find:
    """``fault("12-high-bit/highbit15")`` is that folder."""
    return lambda name: shared_data(f"faults/dicom/{name}")


def imported(folder: Path, out: Path) -> dict[str, nib.Nifti1Image]:
    """The volumes that an import makes, by what tells them apart."""
    result = run("dicom", "import", folder, "--out", out)
    assert result.exit_code == 0, result.output
    files = sorted((out / "imagesTr").iterdir())
    return {file.name.removesuffix(".nii.gz").split("_1_")[-1]: nib.load(file) for file in files}


def stack_sizes(volumes: dict[str, nib.Nifti1Image]) -> list[tuple[int, float]]:
    return [(i.shape[2], round(float(i.header.get_zooms()[2]), 3)) for i in volumes.values()]


def values(volumes: dict[str, nib.Nifti1Image]) -> NDArray[Any]:
    (image,) = volumes.values()
    return np.asanyarray(image.dataobj)


def refused(folder: Path, out: Path) -> list[dict[str, Any]]:
    result = run("dicom", "import", folder, "--out", out)
    assert result.exit_code == 2, result.output
    scanned = json.loads(run("dicom", "scan", folder, "--json").stdout)
    (patient,) = scanned["patients"]
    found: list[dict[str, Any]] = patient["studies"][0]["series"][0]["problems"]
    return found


def test_a_ct_shown_inverted_is_in_hu(fault: Find, tmp_path: Path) -> None:
    folder = "02-monochrome1-ct-without-rescaletype"
    bare = values(imported(fault(f"{folder}/mono1ct_norst"), tmp_path / "a"))
    named = values(imported(fault(f"{folder}/mono1ct_hu2"), tmp_path / "b"))
    assert (bare.min(), bare.max()) == (-1024, 2975)
    assert (named.min(), named.max()) == (-1024, 2975)


def test_slabs_between_slices(fault: Find, tmp_path: Path) -> None:
    volumes = imported(fault("10-other-imagetype-between-slices/mip_derived"), tmp_path / "out")
    assert list(volumes) == ["type-derived-secondary-mip", "type-original-primary-axial"]
    assert stack_sizes(volumes) == [(5, 5.0), (5, 5.0)]


@pytest.mark.parametrize(("name", "count"), [("te_jitter", 3), ("te_jitter10", 10)])
def test_jitter_of_an_echo_time(name: str, count: int, fault: Find, tmp_path: Path) -> None:
    volumes = imported(fault(f"11-echo-time-jitter-splits-a-volume/{name}"), tmp_path / "out")
    assert list(volumes) == ["time-1", "time-2", "time-3"]
    assert stack_sizes(volumes) == [(count, 3.0)] * 3


def test_the_highest_twelve_bits(fault: Find, tmp_path: Path) -> None:
    found = values(imported(fault("12-high-bit/highbit15"), tmp_path / "out"))
    assert (found.min(), found.max()) == (-1024, 2975)


def test_half_a_concatenation(fault: Find, tmp_path: Path) -> None:
    (problem,) = refused(fault("13-incomplete-concatenation/enh_conc_missing"), tmp_path / "out")
    assert problem["kind"] == "incomplete-concatenation"
    assert "1 of 2 parts are there" in problem["message"]


def test_rounded_positions(fault: Find, tmp_path: Path) -> None:
    volumes = imported(fault("15-positions-rounded-to-a-tenth/round_0.625_1"), tmp_path / "out")
    assert stack_sizes(volumes) == [(40, 0.625)]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ge_time", ["volume-1", "volume-2"]),
        ("philips_dir", ["direction-1", "direction-2", "direction-3"]),
    ],
)
def test_volumes_without_a_public_key(
    name: str, expected: list[str], fault: Find, tmp_path: Path
) -> None:
    volumes = imported(fault(f"16-4d-without-public-key/{name}"), tmp_path / "out")
    assert list(volumes) == expected
    assert stack_sizes(volumes) == [(3, 3.0)] * len(expected)


def test_a_stray_file_beside_a_series(fault: Find, tmp_path: Path) -> None:
    folder, out = fault("17-stray-file-stops-predict/stray"), tmp_path / "out"
    result = run(
        "predict", "--model", "zoo:hippocampus", "--format", "dicom-seg", "--out", out, folder
    )
    assert result.exit_code == 3, result.output
    assert len(list(out.glob("*.seg.dcm"))) == 1
    assert f"{folder / 'note.nrrd'}: is no DICOM image" in result.stderr


@pytest.mark.parametrize(
    ("name", "said"), [("slope0", "RescaleSlope is 0"), ("slope_bad", "RescaleSlope cannot be")]
)
def test_slopes_of_no_sense(name: str, said: str, fault: Find, tmp_path: Path) -> None:
    (problem,) = refused(fault(f"19-slope-zero-or-text/{name}"), tmp_path / "out")
    assert problem["kind"] == "bad-value"
    assert said in problem["message"]


def test_time_goes_on_over_midnight(fault: Find, tmp_path: Path) -> None:
    folder = fault("21-time-order-over-midnight/midnight")
    volumes = imported(folder, tmp_path / "out")
    assert list(volumes) == ["time-1", "time-2"]
    import pydicom

    early = [
        dataset.pixel_array
        for file in sorted(folder.iterdir())
        if (dataset := pydicom.dcmread(file)).AcquisitionTime == "235958"
    ]
    first = np.asanyarray(volumes["time-1"].dataobj)
    np.testing.assert_array_equal(first[:, ::-1].transpose(2, 1, 0), early)
