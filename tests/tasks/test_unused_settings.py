"""A training setting that a task does not read is refused by its name, before any work."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from medseg_nca.cli.main import cli


@pytest.mark.parametrize(
    ("preset", "setting"),
    [
        ("digits_classification", "training.loss.name=focal"),
        ("digits_classification", "training.foreground=0.9"),
        ("growing_emblem", "training.foreground=0.9"),
        ("phantom_depth", "training.validate_steps=[1, 4]"),
        ("phantom_depth", "training.loss.params.lambda_ce=3"),
    ],
)
def test_it_is_refused_by_name(tmp_path: Path, preset: str, setting: str) -> None:
    out = tmp_path / "run"
    result = CliRunner().invoke(
        cli, ["train", "--config", preset, "--out", str(out), "--set", setting]
    )
    assert result.exit_code == 2, result.output
    name = ".".join(setting.partition("=")[0].split(".")[:2])
    assert f"{name} has no meaning in the task" in result.output
    assert not out.exists()
