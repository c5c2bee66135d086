"""A ``model.json`` from elsewhere: refused by name, before anything is grown or written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from medseg_nca.cli.main import cli
from medseg_nca.errors import ModelError
from medseg_nca.tasks.generation import TASK
from medseg_nca.tasks.generation.targets import load_targets
from tests.tasks.generation.growing import model_of, square, tiny, write_png

FAULTS: tuple[tuple[str, str, Any, str], ...] = (
    ("facts", "targets", ["../pwned"], "targets"),
    ("facts", "targets", [5], "targets"),
    ("facts", "targets", ["a\0b"], "targets"),
    ("facts", "targets", [], "targets"),
    ("facts", "targets", ["a", "a"], "names of their own"),
    ("facts", "grid", [10**4, 10], "grid"),
    ("facts", "visible", 2, "visible"),
    ("facts", "affine", "no", "affine"),
    ("facts", "affine", [[1e300] * 4] * 4, "affine"),
    ("facts", "more", 1, "more"),
    ("options", "seeds", [[-5, 2]], "seeds"),
    ("options", "seeds", [[1e308, 0]], "seeds"),
    ("options", "seeds", [[0.5, 0.5, 0.5]], "2 numbers"),
    ("options", "genome", "bogus", "genome"),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model_of(tmp_path_factory.mktemp("hostile")).folder


@pytest.mark.parametrize(("part", "key", "value", "words"), FAULTS)
def test_what_no_training_writes_is_refused(
    folder: Path, tmp_path: Path, part: str, key: str, value: Any, words: str
) -> None:
    tree = json.loads((folder / "model.json").read_text())
    tree[part][key] = value
    bad, out = tmp_path / "model", tmp_path / "deep" / "out"
    bad.mkdir()
    (bad / "model.json").write_text(json.dumps(tree))
    (bad / "weights.safetensors").write_bytes((folder / "weights.safetensors").read_bytes())
    for read in (TASK.read, TASK.load):
        with pytest.raises(ModelError, match=words):
            read(bad)
    for command in (("predict", "--model", bad, "--out", out), ("models", "verify", bad)):
        done = CliRunner().invoke(cli, [str(word) for word in command])
        assert (done.exit_code, words in done.output) == (2, True), done.output
    assert not out.parent.exists()


def test_a_target_with_a_strange_file_name_makes_a_model_that_can_be_read(tmp_path: Path) -> None:
    picture = write_png(tmp_path / "_my häuser (2).png", square(8))
    model = model_of(tmp_path / "run", f"options.target={picture}")
    assert model.spec.facts["targets"] == ["target_my_h_user__2_"]
    options = TASK.options(tiny(f"options.target={picture}"))
    assert load_targets(options).names == ("target_my_h_user__2_",)
