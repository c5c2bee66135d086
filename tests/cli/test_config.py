"""``medseg-nca config``."""

from __future__ import annotations

import json
from pathlib import Path

import yaml
from click.testing import CliRunner

from medseg_nca.cli.main import cli
from medseg_nca.config import RunSettings
from medseg_nca.config.loading import load_settings
from medseg_nca.config.presets import preset_names


def run(*args: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(cli, ["config", *args])
    return result.exit_code, result.stdout, result.stderr


def test_list_names_every_preset() -> None:
    code, out, _ = run("list", "--json")
    assert code == 0
    found = json.loads(out)
    assert tuple(found["run"]) == preset_names()
    assert tuple(found["model"]) == preset_names("model")
    assert "12,480 parameters" in run("list")[1]


def test_show_prints_settings_that_can_be_read_back() -> None:
    code, out, _ = run("show", "--set", "model=med_nca", "--set", "training.lr=5e-4")
    assert code == 0
    settings = RunSettings.model_validate(yaml.safe_load(out))
    assert settings == load_settings(None, ["model=med_nca", "training.lr=5e-4"])


def test_show_as_json() -> None:
    assert json.loads(run("show", "--json")[1])["training"]["schedule"] == "cosine"


def test_show_refuses_a_typo_with_exit_code_2(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("trainig: {lr: 1}\n")
    code, out, err = run("show", str(file))
    assert (code, out) == (2, "")
    assert "mine.yaml: unknown key 'trainig'; did you mean 'training'?" in " ".join(err.split())


def test_schema_describes_the_run() -> None:
    schema = json.loads(run("schema")[1])
    assert set(schema["properties"]) == set(RunSettings.model_fields)
    assert schema["additionalProperties"] is False


def test_diff_names_the_keys_as_set_takes_them(tmp_path: Path) -> None:
    one, two = tmp_path / "one.yaml", tmp_path / "two.yaml"
    one.write_text("training: {lr: 1e-3}\nmodel: med_nca\n")
    two.write_text("training: {lr: 2e-3}\nmodel: {preset: med_nca, levels: {1: {steps: 9}}}\n")
    assert json.loads(run("diff", str(one), str(two), "--json")[1]) == {
        "model.levels.1.steps": [64, 9],
        "training.lr": [0.001, 0.002],
    }
    assert "training.lr: 0.001 -> 0.002" in run("diff", str(one), str(two))[1]
    assert run("diff", str(one), str(one)) == (0, "", "")
