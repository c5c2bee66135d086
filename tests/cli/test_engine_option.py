"""``--engine`` of the commands that use a trained model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from medseg_nca.datasets.adapters.phantom import write_phantom
from tests.cli.runner import complains, run
from tests.serving.running import picture
from tests.tracking.tiny import make_run


@pytest.fixture
def image(tmp_path: Path) -> Path:
    (tmp_path / "image.png").write_bytes(picture())
    return tmp_path / "image.png"


def predicted(out: Path, *words: object) -> tuple[bytes, dict[str, Any]]:
    result = run("predict", "--model", "zoo:nuclei", "--device", "cpu", "--out", out, *words)
    assert result.exit_code == 0, result.output
    tree = json.loads((out / "predictions.json").read_text(encoding="utf-8"))
    return (out / "image.png").read_bytes(), tree


def test_predict_records_the_engine_and_gives_the_same_label_map(
    image: Path, tmp_path: Path
) -> None:
    found = {}
    for words in ((), ("--engine", "cpu"), ("--engine", "reference")):
        name = words[-1] if words else "auto"
        found[name], tree = predicted(tmp_path / name, *words, image)
        assert tree["settings"]["engine"] == name
        assert tree["predictions"][0]["empty"] is False
    assert found["auto"] == found["cpu"] == found["reference"]


def test_a_result_by_another_engine_is_made_anew(image: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    keys = []
    for engine in ("auto", "reference", "reference"):
        _, tree = predicted(out, "--engine", engine, image)
        keys.append((tree["predictions"][0]["record"]["key"], tree["predictions"][0]["seconds"]))
        assert tree["settings"]["engine"] == engine
    assert keys[0][0] != keys[1][0]
    assert keys[1] == keys[2]


def test_evaluate_records_the_engine(tmp_path: Path) -> None:
    make_run(tmp_path / "run", dims=2)
    data = tmp_path / "data"
    write_phantom(data, cases=2, seed=1, dims=2, size=(24, 20))
    text = (data / "dataset.json").read_text(encoding="utf-8")
    (data / "dataset.json").write_text(text.replace('"posterior"', '"post"'), encoding="utf-8")
    result = run("evaluate", "--model", tmp_path / "run", "--data", data, "--engine", "reference",
                 "--device", "cpu", "--out", tmp_path / "out")  # fmt: skip
    assert result.exit_code == 0, result.output
    tree = json.loads((tmp_path / "out" / "metrics.json").read_text(encoding="utf-8"))
    assert tree["settings"]["engine"] == "reference"


@pytest.mark.parametrize("engine", ["cpu", "reference"])
def test_a_stored_answer_is_given_by_every_engine(engine: str) -> None:
    result = run("models", "verify", "zoo:nuclei", "--engine", engine, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["passed"] is True


@pytest.mark.parametrize(
    "words",
    [
        ("predict", "--model", "zoo:nuclei", "--out", "out", "image.png"),
        ("evaluate", "--model", "zoo:nuclei", "--out", "out", "--data", "."),
        ("models", "verify", "zoo:nuclei"),
        ("serve", "--models", "zoo:nuclei", "--state", "out"),
    ],
    ids=lambda words: words[0],
)
def test_an_unknown_engine_is_refused_by_name(
    words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    complains(run(*words, "--engine", "refrence"), "'refrence'", "did you mean 'reference'?")
    assert not (tmp_path / "out").exists()
