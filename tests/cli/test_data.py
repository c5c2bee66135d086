"""``medseg-nca data`` from the outside."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from click.testing import CliRunner, Result

from medseg_nca.cli.main import cli


def run(*args: object) -> Result:
    return CliRunner().invoke(cli, ["data", *map(str, args)])


@pytest.fixture
def phantom(tmp_path: Path) -> Path:
    out = tmp_path / "phantom"
    assert (
        run("phantom", out, "--cases", 3, "--seed", 4, "--dims", 2, "--size", "40x36").exit_code
        == 0
    )
    return out


def test_a_phantom_is_made_and_passes_the_check(phantom: Path) -> None:
    result = run("check", phantom)
    assert result.exit_code == 0
    assert "0 error(s), 0 warning(s)." in result.stdout
    assert "anterior: in 3 cases" in result.stdout


def test_the_report_goes_to_files(phantom: Path, tmp_path: Path) -> None:
    report, table = tmp_path / "r.json", tmp_path / "r.csv"
    assert run("check", phantom, "--json", report, "--table", table).exit_code == 0
    assert json.loads(report.read_text())["ok"] is True
    assert len(table.read_text().splitlines()) == 4


def test_the_report_can_be_printed_alone(phantom: Path) -> None:
    assert json.loads(run("check", phantom, "--json", "-").stdout)["counts"]["cases"] == 3


def test_errors_end_with_code_2_and_are_listed(phantom: Path, tmp_path: Path) -> None:
    label = phantom / "labelsTr" / "phantom_00001.nii.gz"
    nib.Nifti1Image(np.full((3, 3), 9, np.uint8), np.eye(4)).to_filename(label)
    result = run("check", phantom, "--json", tmp_path / "r.json")
    assert result.exit_code == 2
    assert "shape_differs" in result.stdout
    assert "unknown_label_value" in result.stdout
    assert "2 error(s) in 3 cases" in result.stderr
    assert json.loads((tmp_path / "r.json").read_text())["ok"] is False


def test_warnings_alone_end_with_code_0(phantom: Path) -> None:
    (phantom / "labelsTr" / "extra.nii.gz").write_bytes(
        (phantom / "labelsTr" / "phantom_00001.nii.gz").read_bytes()
    )
    result = run("check", phantom)
    assert result.exit_code == 0
    assert "1 warning(s)" in result.stdout


@pytest.mark.parametrize("name", ["nowhere", "."])
def test_no_data_set_ends_with_code_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run("check", name)
    assert result.exit_code == 2
    assert "Error:" in result.stderr
    assert "Next:" in result.stderr


def test_a_phantom_in_the_place_of_another_is_refused(phantom: Path) -> None:
    assert run("phantom", phantom).exit_code == 2


@pytest.mark.parametrize("size", ["big", "40x", "40x36x9"])
def test_a_size_that_makes_no_sense(tmp_path: Path, size: str) -> None:
    result = run("phantom", tmp_path / "p", "--dims", 2, "--size", size)
    assert result.exit_code == 2
    assert not list(tmp_path.iterdir())


def test_list_names_what_can_be_fetched_and_read() -> None:
    result = run("list")
    assert result.exit_code == 0
    assert "Task04_Hippocampus" in result.stdout
    assert "CC-BY-SA 4.0" in result.stdout
    tree = json.loads(run("list", "--json").stdout)
    assert len(tree["fetch"]) == 10
    assert set(tree["formats"]) == {"msd", "nnunet", "folders", "datalist", "dicom", "phantom"}


def test_fetch_from_a_file(tmp_path: Path) -> None:
    archive = tmp_path / "a.tar"
    with tarfile.open(archive, "w") as tar:
        info = tarfile.TarInfo("Task02_Heart/dataset.json")
        info.size = 2
        tar.addfile(info, io.BytesIO(b"{}"))
    result = run("fetch", "heart", tmp_path, "--from", archive, "--no-checksum")
    assert result.exit_code == 0
    assert result.stdout.strip() == str(tmp_path / "Task02_Heart")
    assert "CC-BY-SA 4.0" in result.stderr
    assert run("fetch", "heart", tmp_path / "x", "--from", archive).exit_code == 2


def test_fetch_of_an_unknown_name() -> None:
    result = run("fetch", "Task4")
    assert result.exit_code == 2
    assert "Unknown data set to fetch 'Task4'" in result.stderr
