"""The inputs of public bug reports on pictures, labels and stores, through the public interfaces.

Each is rebuilt in the tests of its part; here the very files are tried where they are at hand.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image, ImageOps

from medseg_nca.cli.main import cli
from medseg_nca.config.loading import load_settings
from medseg_nca.io.read import read_label, read_volume
from medseg_nca.io.write import write_volume
from medseg_nca.pipelines import train

DISC = 11_277  # pixels


@pytest.fixture(name="fault")
def fault_fixture(shared_data: Callable[[str], Path]) -> Callable[[str], Path]:
    images = shared_data("faults") / "images"

    def find(number: str) -> Path:
        found = next(images.glob(f"{number}-*"), None)
        if found is None:
            pytest.skip(f"{images} has no folder {number}")
        return found

    return find


def run(*args: object) -> Result:
    result = CliRunner().invoke(cli, [str(arg) for arg in args])
    assert "Traceback" not in result.output
    return result


def report_of(folder: Path, tmp_path: Path) -> tuple[int, dict[str, Any]]:
    result = run("data", "check", folder, "--json", tmp_path / "report.json")
    return result.exit_code, json.loads((tmp_path / "report.json").read_text())


def codes(report: dict[str, Any], level: str) -> set[str]:
    return {found["code"] for found in report["findings"] if found["level"] == level}


@pytest.mark.parametrize(
    ("name", "pixels"),
    [
        ("labels/a.png", DISC),
        ("other/group4.tif", DISC),
        ("other/zlib_1bit.tif", DISC),
        ("other/zstd_8bit.tif", DISC),
        ("other/empty_512.png", 0),
    ],
)
def test_03_sparse_masks_are_read(fault: Callable[[str], Path], name: str, pixels: int) -> None:
    label = read_label(fault("03") / name).array
    assert int(label.sum()) == pixels
    assert set(np.unique(label)) <= {0, 1}


def test_03_a_check_finds_no_fault_in_a_sparse_mask(
    fault: Callable[[str], Path], tmp_path: Path
) -> None:
    _, report = report_of(fault("03"), tmp_path)
    assert codes(report, "error") == {"few_patients"}
    assert [entry["voxels"] for entry in report["label_values"]] == [DISC]


def test_05_no_bit_is_lost(fault: Callable[[str], Path]) -> None:
    for name in ("label_grey_alpha_0_3.png", "label_rgba_0_3.png"):
        assert set(np.unique(read_label(fault("05") / name).array)) == {0, 3}
    image = read_volume(fault("05") / "image_rgb_12bit_in_16.png").array
    assert image.shape[0] == 3
    assert len(np.unique(image)) == 2604


def test_07_picture_mask_and_result_lie_on_each_other(
    fault: Callable[[str], Path], tmp_path: Path
) -> None:
    for name in ("c0", "c1", "c2"):
        source = fault("07") / "images" / f"{name}.jpg"
        with Image.open(source) as opened:
            shown = np.asarray(ImageOps.exif_transpose(opened))
        image = read_volume(source)
        np.testing.assert_array_equal(image.array, shown.reshape(*shown.shape[:2], -1).T)
        mask = read_label(fault("07") / "labels" / f"{name}.png").array[0] > 0
        grey = image.array.mean(0)
        assert abs(grey[mask].mean() - grey[~mask].mean()) > abs(
            grey[::-1, ::-1][mask].mean() - grey[::-1, ::-1][~mask].mean()
        )
        write_volume(image, tmp_path / f"{name}.png")
        with Image.open(tmp_path / f"{name}.png") as opened:
            np.testing.assert_array_equal(np.asarray(ImageOps.exif_transpose(opened)), shown)


def test_07_a_check_tells_that_pictures_are_turned(
    fault: Callable[[str], Path], tmp_path: Path
) -> None:
    _, report = report_of(fault("07"), tmp_path)
    assert "orientation_differs" in codes(report, "warning")


def test_10_lossy_labels_are_errors_of_a_check(
    fault: Callable[[str], Path], tmp_path: Path
) -> None:
    code, report = report_of(fault("10"), tmp_path)
    assert code == 2
    unusable = [found for found in report["findings"] if found["code"] == "label_unusable"]
    assert len(unusable) == 4
    assert all("packed with loss (JPEG)" in found["message"] for found in unusable)


@pytest.mark.parametrize(
    ("uri", "module"),
    [("postgresql://u:p@localhost:1/x", "psycopg"), ("mysql://u:p@localhost:1/x", "MySQLdb")],
)
def test_11_a_missing_driver_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, uri: str, module: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, module, None)
    for command in (("doctor",), ("models", "list"), ("models", "show", "models:/a/1")):
        result = run(*command, "--tracking-uri", uri)
        assert result.exit_code == 2
        assert "pip install" in result.output
        assert "u:p@" not in result.output
    assert "zoo:hippocampus" in run("doctor", "--tracking-uri", uri).output


def test_14_a_label_that_only_held_out_cases_have_is_named(
    fault: Callable[[str], Path], tmp_path: Path
) -> None:
    data = tmp_path / "data"
    shutil.copytree(fault("14"), data)
    made = run(
        "preprocess", "--data", data, "--out", tmp_path / "prepared",
        "--config", "hippocampus_m3d", "--set", "data.labels=null", "--workers", "0",
    )  # fmt: skip
    assert made.exit_code == 0, made.output
    assert "is in no training case" in made.output
    settings = load_settings(
        "hippocampus_m3d",
        [
            "data.labels=null", "training.iterations=1", "training.batch_size=1",
            "training.validate_cases=1", "tracking.enabled=false", "device=cpu",
            "training.workers=0",
        ],
    )  # fmt: skip
    torch.set_num_threads(1)
    train.run(tmp_path / "prepared", tmp_path / "run", settings)
    log = (tmp_path / "run" / "train.log").read_text(encoding="utf-8")
    named = next(line for line in log.splitlines() if "is in no training case" in line)
    assert "(test: hippocampus_001)" in named
