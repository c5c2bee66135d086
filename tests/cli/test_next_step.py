"""The commands that a command prints as the next ones run as they are printed."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
from click.testing import Result

from medseg_nca.cli.next_step import command, free_folder, model_name
from tests.cli.runner import run as call

# What makes a model that has learned something in seconds; nothing of it names a model.
QUICK = (
    "training.iterations=100", "training.validate_every=50", "training.lr=4e-3",
    "training.log_every=10", "model.engine=reference", "tracking.system_metrics=false",
    "evaluation.bootstrap=10",
)  # fmt: skip


def run(words: list[str]) -> Result:
    result = call(*words)
    assert result.exit_code == 0, result.output
    return result


def next_of(result: Result) -> list[str]:
    """The words of the one next command that was printed, as a shell reads them."""
    lines = result.stdout.splitlines() + result.stderr.splitlines()
    (line,) = dict.fromkeys(line for line in lines if line.startswith("Next: "))
    program, *words = shlex.split(line.removeprefix("Next: "))
    assert program == "medseg-nca"
    return words


@pytest.mark.slow
def test_from_a_data_set_to_a_champion_by_the_printed_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    made = run(["data", "phantom", "my data", "--cases", "12", "--dims", "2", "--size", "32x28"])
    checked = run(next_of(made))
    settings = [word for text in QUICK for word in ("--set", text)]
    prepared = run([*next_of(checked), *settings])
    trained = run(next_of(prepared))
    assert "model: pyramid_nca" not in Path("runs/my data/settings.yaml").read_text()
    assert "name: pyramid_nca" in Path("runs/my data/settings.yaml").read_text()
    assert json.loads(Path("runs/my data/training.json").read_text())["learned"] is True
    evaluated = run(next_of(trained))
    registered = run(next_of(evaluated))
    promoted = run(next_of(registered))
    assert "models:/my data@champion is version 1." in promoted.stdout

    # The evaluation may lie anywhere, and another run does not get in the way of the first.
    again = run([*next_of(trained), "--out", "elsewhere"])
    Path("runs/my data/evaluation").rename("moved")
    registered = run(next_of(again))
    assert next_of(registered)[:4] == ["models", "promote", "my data", "2"]
    assert next_of(run([*next_of(checked), *settings]))[-1] == "runs/my data_2"


def test_words_are_quoted_as_a_shell_takes_them() -> None:
    assert command("data", "check", Path("a b;c")) == "medseg-nca data check 'a b;c'"


def test_a_folder_in_use_is_passed_over(tmp_path: Path) -> None:
    for name in ("a", "a_2"):
        (tmp_path / name).mkdir()
    assert free_folder(str(tmp_path), "a") == tmp_path / "a_3"


@pytest.mark.parametrize(
    ("folder", "name"), [("runs/first", "first"), ("runs/a:b", "a-b"), ("-x", "x"), ("--", "model")]
)
def test_a_model_is_called_like_its_run(folder: str, name: str) -> None:
    assert model_name(Path(folder)) == name
