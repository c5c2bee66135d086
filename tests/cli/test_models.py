"""``medseg-nca models``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from medseg_nca.cli.main import cli
from medseg_nca.tracking import resolve
from tests.tracking.tiny import evaluate, make_run, new_store, save_tiny


def run(*args: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(cli, ["models", *map(str, args)])
    return result.exit_code, result.stdout, result.stderr


def as_json(*args: object) -> Any:
    code, out, err = run(*args, "--json")
    assert code == 0, err
    return json.loads(out)


def test_from_a_run_to_a_champion_on_another_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    store = ("--tracking-uri", str(new_store(tmp_path / "store").uri))
    spec = make_run(tmp_path / "run")
    assert "There are no registered models" in run("list", *store)[1]

    code, out, _ = run("register", tmp_path / "run", "--name", "hippo", *store)
    assert code == 0
    assert "Registered models:/hippo/1" in out
    assert "needs one before it can be promoted" in out

    code, _, err = run("promote", "hippo", "1", "--alias", "champion", *store)
    assert code == 2
    assert "has no evaluation" in err
    folder = evaluate(tmp_path / "evaluated", spec)
    promote = ("promote", "hippo", "1", "--alias", "champion", "--evaluation", folder)
    assert "models:/hippo@champion is version 1" in run(*promote, *store)[1]

    assert as_json("list", *store)[0]["aliases"] == ["champion"]
    assert [v["version"] for v in as_json("list", "hippo", *store)] == ["1"]
    assert "0.8100" in run("list", *store)[1]
    assert as_json("show", "hippo", *store)["tags"]["evaluated"] == "yes"
    assert spec.weights_sha256 in run("show", "hippo", "champion", *store)[1]
    assert as_json("verify", "models:/hippo@champion", *store)["passed"] is True
    assert "identical" in run("verify", "models:/hippo/1", *store)[1]

    out_folder = tmp_path / "exported"
    files = as_json("export", "models:/hippo@champion", "--to", out_folder, *store)["files"]
    assert [Path(file).name for file in files] == ["weights.safetensors", "model.json"]
    assert as_json("verify", out_folder)["passed"] is True
    assert run("export", out_folder, "--to", out_folder)[0] == 2


def test_a_model_that_fails_verification_gives_exit_code_2(tmp_path: Path) -> None:
    make_run(tmp_path / "run")
    weights = tmp_path / "run" / "model" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4])
    code, out, err = run("verify", tmp_path / "run")
    assert code == 2
    assert "failed" in out
    assert "failed verification" in err


def test_describe_a_model_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    tree = as_json("describe", "m3d_nca", "--size", "32,32,16")
    assert tree["parameters"] == 12_480
    assert tree["size"] == [32, 32, 16]
    assert [level["grid"] for level in tree["levels"]] == [[8, 8, 4], [32, 32, 16]]
    code, out, _ = run("describe", "med_nca", "--set", "model.cell.channels=16")
    assert code == 0
    assert "receptive field" in out
    assert "levels, coarse to fine" in out


def test_parts_of_a_cell_are_listed_and_described(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    listed = {(part["setting"], part["name"]): part for part in as_json("parts")}
    assert listed["model.cell.perception.kind", "conv"]["settings"] == "dilation, filters, kernel"
    attention = listed["model.cell.perception.kind", "attention"]
    assert attention["settings"] == "kernel, params.heads=4, params.width=4"
    assert "params.keep=2.0" in listed["model.cell.update.kind", "gru"]["settings"]
    assert listed["model.cell.bound", "bound"]["settings"] == "kind, limit"
    assert "Attention of each cell to its neighbours." in run("parts")[1]
    parts = "model.cell.perception={kind: concat, params: {parts: [sobel, {kernel: 5}]}}"
    changed = ("--set", parts, "--set", "model.cell.update.spectral_norm=true")
    tree = as_json("describe", "backbone_nca", *changed, "--set", "model.cell.bound.limit=2")
    assert tree["perception"].endswith("parts sobel + 5")
    assert tree["update_rule"].startswith("mlp, ")
    assert "spectral_norm yes" in tree["update_rule"]
    assert tree["cell_options"] == {"bound": "kind clamp, limit 2.0"}


def test_describe_a_trained_model(tmp_path: Path) -> None:
    make_run(tmp_path / "run")
    assert as_json("describe", tmp_path / "run")["out_channels"] == 3
    code, _, err = run("describe", tmp_path / "run", "--set", "model.dims=2")
    assert code == 2
    assert "trained already" in err


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("describe", "m3d_ncaa"), "m3d_nca"),
        (("describe", "m3d_nca", "--size", "32,32"), "write it as 64,64,64"),
        (("describe", "m3d_nca", "--size", "big"), "write it as 64,64,64"),
        (("show", "a/b"), "cannot be the name"),
        (("verify", "zoo:nothing-like-it"), "zoo"),
    ],
)
def test_mistakes_are_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, args: tuple[str, ...], message: str
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", str(new_store(tmp_path).uri))
    code, _, err = run(*args)
    assert code == 2
    assert message in err


def test_the_zoo_is_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    # A package without its models cannot be had from this checkout, in which they lie.
    monkeypatch.setattr(resolve, "zoo_folder", lambda: tmp_path)
    assert "No models come" in run("zoo", "list")[1]
    save_tiny(tmp_path / "hippocampus")
    entry = as_json("zoo", "list")[0]
    assert entry["reference"] == "zoo:hippocampus"
    assert entry["labels"] == ["anterior", "post"]
    assert "zoo:hippocampus" in run("zoo", "list")[1]
