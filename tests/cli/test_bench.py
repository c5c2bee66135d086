"""``medseg-nca bench``."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from click.testing import CliRunner

from medseg_nca.benchmark import process
from medseg_nca.benchmark.model import prepared_image
from medseg_nca.cli.main import cli

TINY = ("--case", "3d_8_c4_h8_k3", "--seconds", "0", "--threads", "1")
PROMISED = ["case", "mode", "engine", "ms_per_step", "gflops", "share_of_sgemm", "ratio_to_eager",
            "peak_mb"]  # fmt: skip
EXTRA = ["ratio_to_reference", "cells_per_second", "best_ms_per_step", "repeats", "steps",
         "threads"]  # fmt: skip


def run(*args: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(cli, ["bench", *map(str, args)])
    return result.exit_code, result.stdout, result.stderr


@pytest.mark.parametrize("command", [(), ("step",), ("train",), ("model",)])
def test_help(command: tuple[str, ...]) -> None:
    code, out, _ = run(*command, "--help")
    assert code == 0
    assert "Usage:" in out


@pytest.mark.slow
def test_json_on_standard_output(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(repository)
    code, out, err = run("step", *TINY, "--engine", "cpu", "--engine", "reference", "--json")
    assert code == 0, err
    tree = json.loads(out)
    assert list(tree) == ["machine", "sgemm_gflops", "rows"]
    assert tree["sgemm_gflops"] > 0
    assert "load" in tree["machine"]
    assert [row["engine"] for row in tree["rows"]] == ["eager", "cpu", "reference"]
    for row in tree["rows"]:
        assert list(row) == [*PROMISED, *EXTRA]
        assert (row["case"], row["mode"]) == ("3d_8_c4_h8_k3", "step")
        assert row["peak_mb"] >= 0
        assert all(row[key] > 0 for key in [*PROMISED, *EXTRA][3:] if key != "peak_mb")
    assert tree["rows"][0]["ratio_to_eager"] == 1.0


def fake(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Answer every measurement at once; returns what is asked for."""
    asked: list[str] = []

    def in_process(task: str, **arguments: object) -> object:
        if task == "machine":
            return {"cpu": "test", "threads": 1}
        if task == "sgemm":
            return 50.0 + len(asked)
        asked.append(f"{task} {arguments.get('model', arguments.get('case'))} "
                     f"{arguments['engine']}")  # fmt: skip
        if arguments["engine"] == "cpu":
            raise process.MeasurementError("The engine 'cpu' does not serve that.")
        numbers = {"seconds": 0.02, "best_seconds": 0.01, "repeats": 2, "peak_mb": 3.0,
                   "flop": 1e7, "cells": 512}  # fmt: skip
        return numbers if task == "step" else {**numbers, "steps": 4, "parameters": 9}

    # Tests of the measurements stand in tests/benchmark; a sweep of real ones takes minutes.
    monkeypatch.setattr("medseg_nca.pipelines.bench.in_process", in_process)
    return asked


def test_a_table_and_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake(monkeypatch)
    code, out, err = run("train", *TINY, "--json", tmp_path / "x.json")
    assert code == 0, err
    assert "× eager" in out
    assert "3d_8_c4_h8_k3, cpu: The engine 'cpu' does not serve that." in out
    tree = json.loads((tmp_path / "x.json").read_text())
    assert tree["sgemm_gflops"] == 53.0  # the larger of before and after
    assert {row["mode"] for row in tree["rows"]} == {"train"}


def test_a_sweep_is_plotted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = fake(monkeypatch)
    code, _, err = run("step", *TINY, "--engine", "eager", "--sweep", "--out", tmp_path)
    assert code == 0, err
    names = {
        "bench.json",
        "bench.csv",
        *(f"cost_by_{a}.png" for a in ("size", "steps", "channels")),
    }
    assert {file.name for file in tmp_path.iterdir()} == names
    with (tmp_path / "bench.csv").open() as stream:
        table = list(csv.DictReader(stream))
    assert len(table) == len(asked) == 1 + 4 + 5 + 4
    assert [row["axis"] for row in table][:2] == ["", "size"]


def test_models_beside_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = fake(monkeypatch)
    code, out, err = run("model", "--size", "16,24,16", "--engine", "reference", "--json", "-")
    assert code == 0, err
    assert asked == [
        "model zoo:hippocampus eager", "model zoo:hippocampus reference",
        "model unet torch", "model dynunet torch",
    ]  # fmt: skip
    rows = json.loads(out)["rows"]
    assert {row["case"] for row in rows} == {"3d_16x24x16"}
    assert [row["ratio_to_unet"] for row in rows] == [1.0] * 4


def test_models_on_an_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = tmp_path / "image.nii.gz"
    values = np.random.default_rng(0).random((20, 24, 18), np.float32)
    nib.save(nib.Nifti1Image(values, np.eye(4)), image)
    fake(monkeypatch)
    code, out, err = run("model", "--image", image, "--engine", "cpu", "--json", "-")
    assert code == 0, err
    assert {row["case"] for row in json.loads(out)["rows"]} == {"3d_20x24x18_image"}
    seen = prepared_image(str(image), "zoo:hippocampus")
    assert seen.shape == (1, 1, 20, 24, 18)
    assert abs(float(seen.mean())) < 0.1  # normalised
    code, _, err = run("model", "--image", image, "--model", "unet")
    assert code == 2
    assert "'unet' is not trained" in err


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("step", "--case", "3d_64_c16"), "3d_64_c16_h64_k3"),
        (("step", "--engine", "refrence"), "did you mean 'reference'"),
        (("step", "--sweep"), "--sweep needs --out"),
        (("model", "--size", "big"), "write it as 40x56x40"),
        (("model", "--size", "40x40"), "It needs 3 numbers"),
        (("model", "--model", "zoo:nothing"), "nothing"),
    ],
)
def test_what_cannot_be_measured_is_refused(args: tuple[str, ...], said: str) -> None:
    code, out, err = run(*args)
    assert code == 2
    assert out == ""
    assert said in err


def test_a_device_that_is_not_there() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    code, _, err = run("step", *TINY, "--device", "cuda")
    assert code == 2
    assert "torch sees no GPU" in err
