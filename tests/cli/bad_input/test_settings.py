"""Bad settings, checkpoints and options through the command line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.cli.bad_input.stages import TRAINED, image_of, train, truncate
from tests.cli.runner import complains, files_below, run


@pytest.fixture
def run_folder(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "run"))


@pytest.mark.parametrize("command", ["check", "preprocess", "evaluate", "predict"])
def test_an_empty_folder(trained: Path, tmp_path: Path, command: str) -> None:
    folder, out = tmp_path / "empty", tmp_path / "out"
    folder.mkdir()
    arguments: dict[str, tuple[object, ...]] = {
        "check": ("data", "check", folder),
        "preprocess": ("preprocess", "--data", folder, "--out", out),
        "evaluate": ("evaluate", "--model", trained, "--data", folder, "--out", out),
        "predict": ("predict", "--model", trained, "--out", out, folder),
    }
    complains(run(*arguments[command]), folder)
    assert not out.exists()


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("training.lrr=1", "unknown key 'training.lrr'; did you mean 'lr'?"),
        ("trainin.lr=1", "did you mean 'training'?"),
        ("model.levels=[{scael: 2}]", "unknown key 'model.levels.0.scael'; did you mean 'scale'?"),
        ("training.lr=fast", "training.lr: Input should be a valid number"),
        ("training.iterations=0", "greater than or equal to 1"),
        ("training=3", "training: "),
        ("model=m3d_ncaa", "did you mean 'm3d_nca'?"),
        ("training.lr", "write it as key=value"),
        ("training.lr=[1", "not valid YAML"),
    ],
)
def test_a_typo_in_an_override(prepared: Path, tmp_path: Path, override: str, words: str) -> None:
    complains(train(prepared, tmp_path / "out", "--set", override), words)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("trainig: {lr: 1}", "unknown key 'trainig'; did you mean 'training'?"),
        ("model:\n  levels:\n  - {scale: 2, stepps: 3}", "did you mean 'steps'?"),
        ("training: {lr: 1", "is not valid YAML"),
        ("training:\n\tlr: 1", "is not valid YAML"),
        ("seed: 1\nseed: 2", "given twice"),
        ("- 1", "must hold 'key: value' settings"),
        ("seed: !!python/object/apply:os.getcwd []", "is not valid YAML"),
        (None, "there is no such settings file"),
    ],
)
def test_a_settings_file_with_a_fault(tmp_path: Path, content: str | None, words: str) -> None:
    path = tmp_path / "mine.yaml"
    if content is not None:
        path.write_text(content)
    complains(run("config", "show", path), path, words)


def test_an_unknown_preset(prepared: Path, tmp_path: Path) -> None:
    result = run("train", "--data", prepared, "--out", tmp_path / "out", "--config", "demoo")
    complains(result, "did you mean 'demo'?")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("fold", [-1, 3, 99])
def test_a_fold_that_is_not_there(prepared: Path, tmp_path: Path, fold: int) -> None:
    result = train(prepared, tmp_path / "out", "--fold", fold, "--folds", 3)
    complains(result, "0 to 2")
    assert not (tmp_path / "out").exists()


def test_a_second_training_in_one_folder(prepared: Path, run_folder: Path) -> None:
    before = {name: (run_folder / name).read_bytes() for name in files_below(run_folder)}
    complains(train(prepared, run_folder), run_folder, "--resume")
    assert {name: (run_folder / name).read_bytes() for name in files_below(run_folder)} == before


def test_a_checkpoint_of_another_model(prepared: Path, run_folder: Path) -> None:
    settings = run_folder / "settings.yaml"
    text = settings.read_text()
    assert "    channels: 16" in text
    settings.write_text(text.replace("    channels: 16", "    channels: 12"))
    weights = (run_folder / "model" / "weights.safetensors").read_bytes()
    result = train(prepared, run_folder, "--resume", iterations=4)
    complains(result, run_folder / "checkpoints", "of another model")
    assert (run_folder / "model" / "weights.safetensors").read_bytes() == weights


@pytest.mark.parametrize("content", [b"", None], ids=["empty", "truncated"])
def test_a_corrupt_checkpoint_falls_back_to_the_one_before(
    prepared: Path, run_folder: Path, content: bytes | None
) -> None:
    last = run_folder / "checkpoints" / "last.pt"
    truncate(last) if content is None else last.write_bytes(content)
    result = train(prepared, run_folder, "--resume", iterations=3)
    assert result.exit_code == TRAINED, result.output
    assert "checkpoint before it" in " ".join(result.stderr.split())
    assert json.loads((run_folder / "training.json").read_text())["iterations"] == 3


def test_no_checkpoint_is_left(prepared: Path, run_folder: Path) -> None:
    for name in ("last.pt", "previous.pt"):
        (run_folder / "checkpoints" / name).write_bytes(b"")
    complains(train(prepared, run_folder, "--resume"), "last.pt", "previous.pt", "Next: ")


def test_a_model_that_learned_nothing_is_not_sent_to_the_registry(
    trained: Path, prepared: Path, tmp_path: Path
) -> None:
    result = run("evaluate", "--model", trained, "--data", prepared, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "Next:" not in result.output
    refused = run("models", "register", trained, "--name", "useless")
    complains(refused, trained, "learned nothing", "--force")


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--seed", -5),
        ("--seed", 2**63),
        ("--seed", 1.5),
        ("--memory-gb", 0),
        ("--memory-gb", -1),
        ("--memory-gb", "nan"),
        ("--memory-gb", "inf"),
        ("--seg-type", "binry"),
        ("--format", "nifty"),
        ("--fire", "men"),
        ("--uncertainty", 1001),
        ("--flips", "0,0"),
        ("--largest", "no_such_label"),
    ],
)
def test_a_wrong_option_of_predict_is_refused_before_any_work(
    trained: Path, data: Path, tmp_path: Path, option: str, value: object
) -> None:
    out = tmp_path / "out"
    result = run("predict", "--model", trained, "--out", out, image_of(data), option, value)
    complains(result)
    named = {"--format": "output format", "--largest": "largest", "--uncertainty": "uncertainty"}
    assert named.get(option, option) in result.stderr
    assert str(value).split(",")[0] in result.stderr
    assert not out.exists()


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--seed", -5),
        ("--seed", 2**63),
        ("--max-minutes", 0),
        ("--max-minutes", "nan"),
        ("--max-minutes", "inf"),
        ("--fold", -1),
        ("--fold", 5),
        ("--folds", 1),
        ("--device", "gpu9"),
    ],
)
def test_a_wrong_option_of_train_is_refused_before_any_work(
    prepared: Path, tmp_path: Path, option: str, value: object
) -> None:
    out = tmp_path / "run"
    result = train(prepared, out, option, value)
    complains(result, option.removeprefix("--"), value)
    assert not out.exists()
