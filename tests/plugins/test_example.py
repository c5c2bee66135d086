"""A package outside the tree adds one of each kind, and every command uses it."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch

from medseg_nca.cli.main import OTHERS
from medseg_nca.config.parts import PERCEPTIONS, UPDATE_RULES
from medseg_nca.config.presets import NETWORKS
from medseg_nca.datasets.find import ADAPTERS
from medseg_nca.datasets.find_classes import CLASS_LAYOUTS
from medseg_nca.dynamics.probes import PROBES
from medseg_nca.errors import DependencyError
from medseg_nca.io.read import read_volume
from medseg_nca.io.write import WRITERS
from medseg_nca.metrics.definitions import MASK_METRICS
from medseg_nca.nca.engines import ENGINES
from medseg_nca.peers.families import FAMILIES
from medseg_nca.registry import PluginRegistry
from medseg_nca.tasks import TASKS
from medseg_nca.trust.corruptions import CORRUPTIONS
from tests.plugins.processes import ROOT, command, python


def test_the_documentation_lists_what_the_example_adds() -> None:
    project = tomllib.loads((ROOT / "tests/plugin_example/pyproject.toml").read_text("utf-8"))
    used = set(project["project"]["entry-points"])
    text = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
    rows = [line.split("|") for line in text.splitlines() if line.startswith("| a")]
    listed = {row[3].strip(" `") for row in rows}
    assert listed == used
    kinds = (
        NETWORKS, ADAPTERS, CLASS_LAYOUTS, WRITERS, ENGINES, TASKS, MASK_METRICS, PERCEPTIONS,
        UPDATE_RULES, PROBES, FAMILIES, CORRUPTIONS,
    )  # fmt: skip
    assert listed == {kind.others.group for kind in kinds} | {
        "medseg_nca.configs", "medseg_nca.configs.model", "medseg_nca.losses", OTHERS.group
    }  # fmt: skip


@pytest.mark.parametrize(
    "kind",
    [
        NETWORKS, ENGINES, TASKS, MASK_METRICS, PERCEPTIONS, UPDATE_RULES, PROBES, FAMILIES,
        CORRUPTIONS, WRITERS,
    ],
    ids=lambda kind: str(kind.kind),
)  # fmt: skip
def test_a_folder_of_plugins_holds_nothing_else(kind: PluginRegistry) -> None:
    for name in kind.own_names:
        try:
            assert kind.get(name) is not None, name
        except DependencyError:  # of an optional package that is not installed
            assert kind is ENGINES, name


def test_a_command_is_listed_and_runs(installed: Path, data: Path) -> None:
    text = command([installed], "--help")
    assert "example-count" in text
    assert "medseg-nca-example 0.1" in text
    assert command([installed], "example-count", data) == "example_pairs: 5 cases\n"
    assert "Did you mean 'example-count'" in command([installed], "exampl-count", code=2)
    assert "No such command" in command([], "example-count", data, code=2)


def test_a_data_layout_and_presets_are_listed(installed: Path) -> None:
    assert "example_pairs" in command([installed], "data", "list")
    text = command([installed], "config", "list")
    for name in ("example_run", "example_nca", "example_network", "Two small levels of a cell"):
        assert name in text


def test_a_layout_of_classes_is_found(installed: Path, data: Path, tmp_path: Path) -> None:
    images = sorted((data / "imagesTr").iterdir())
    lines = [f"{image} {'ab'[number % 2]}" for number, image in enumerate(images)]
    (tmp_path / "classes.txt").write_text("\n".join(lines))
    program = """\
import sys
from pathlib import Path
from medseg_nca.datasets.find_classes import open_classes
data = open_classes(Path(sys.argv[1]))
print(data.format, data.classes, len(data.images), data.images[0].read().ndim, len(data.hash))
"""
    done = python([installed], "-c", program, tmp_path)
    assert done.stdout == "example_classes ('a', 'b') 5 3 64\n", done.stderr


def test_a_network_is_built_by_its_name(installed: Path) -> None:
    done = python([installed], "-m", "medseg_nca", "models", "describe", "example_network",
                  "--json", "--set", "model.params.kernel=5", "--set", "model.dims=2")  # fmt: skip
    assert json.loads(done.stdout)["parameters"] == 26


def test_a_model_is_trained_and_predicts_in_the_new_format(
    installed: Path, data: Path, trained: tuple[Path, str], tmp_path: Path
) -> None:
    run, said = trained
    out = tmp_path / "out"
    assert "Engine: example_engine." in said
    spec = json.loads((run / "model" / "model.json").read_text(encoding="utf-8"))
    assert spec["model"]["name"] == "example_nca"
    image = sorted((data / "imagesTr").iterdir())[0]
    words = ("predict", "--model", run, "--out", out)
    named = ("--format", "example-npz", "--engine", "example_engine", image)
    command([installed], *words, *named)
    listed = json.loads((out / "predictions.json").read_text(encoding="utf-8"))
    assert listed["settings"]["engine"] == "example_engine"
    with np.load(next(out.glob("*.npz"))) as archive:
        assert archive["labels"].shape == read_volume(image).shape
        np.testing.assert_allclose(archive["affine"], read_volume(image).affine)
    # Whoever asks for the engine needs the package.
    text = command([], *words, "--engine", "example_engine", image, code=2)
    assert "Unknown engine 'example_engine'" in text


def test_checkpoints_of_another_family_are_imported(installed: Path, tmp_path: Path) -> None:
    # A level of Med-NCA with 4 channels and 8 hidden values, inside a module called net.
    shapes = {
        "p0.weight": (4, 4, 3, 3), "p0.bias": (4,), "p1.weight": (4, 4, 3, 3), "p1.bias": (4,),
        "fc0.weight": (8, 12), "fc0.bias": (8,), "fc1.weight": (4, 8),
    }  # fmt: skip
    file, out = tmp_path / "checkpoint.pth", tmp_path / "out"
    torch.save({f"net.{name}": torch.ones(shape) for name, shape in shapes.items()}, file)
    words = (
        "models", "import", "--from", "example-family", file, "--out", out, "--channels", "MR",
        "--labels", "organ", "--axes", "xy", "--steps", "2", "--scales", "1", "--fire-rate", "0.5",
        "--size", "16,16", "--spacing", "own", "--normalise", "zscore",
    )  # fmt: skip
    command([installed], *words)
    spec = json.loads((out / "model.json").read_text(encoding="utf-8"))
    assert spec["model"]["cell"]["perception"]["kind"] == "conv"
    assert "example-family" in command([], *words, code=2)


def test_parts_of_a_cell_are_made_and_their_params_checked(installed: Path) -> None:
    program = """\
import json
from click.testing import CliRunner
from medseg_nca.cli.main import cli
def run(*words):
    return CliRunner().invoke(cli, ["models", "describe", "example_nca", *words])
found = json.loads(run("--json").stdout)
assert found["perception"] == "example_mean, width 5", found
assert [level["kernel"] for level in found["levels"]] == [5, 5]
assert found["parameters"] == 2 * 16 * 7  # two levels, and of each one matrix
wrong = run("--set", "model.cell.perception.params.widht=5")
assert wrong.exit_code == 2
assert "Unknown parameter of the perception 'example_mean' 'widht'" in wrong.stderr
assert "did you mean 'width'?" in wrong.stderr
assert "width must be odd, got 4" in run("--set", "model.cell.perception.params.width=4").stderr
"""
    done = python([installed], "-c", program)
    assert done.returncode == 0, done.stderr


def test_a_model_with_parts_of_the_package_needs_it(
    data: Path, trained: tuple[Path, str], tmp_path: Path
) -> None:
    run, image = trained[0], sorted((data / "imagesTr").iterdir())[0]
    cell = json.loads((run / "model" / "model.json").read_text(encoding="utf-8"))["model"]["cell"]
    assert (cell["update"]["kind"], cell["update"]["params"]) == (
        "example_limited",
        {"limit": 0.25},
    )
    text = command([], "predict", "--model", run, "--out", tmp_path / "out", image, code=2)
    assert "Unknown perception 'example_mean'" in text
    assert "entry points of medseg_nca.perceptions" in text


def test_a_task_is_trained_evaluated_registered_and_predicts(
    installed: Path, tmp_path: Path
) -> None:
    run, out, store = tmp_path / "run", tmp_path / "out", f"sqlite:///{tmp_path / 'mlflow.db'}"
    settings = ["--config", "example_task_run", "--out", run, "--no-tracking"]
    text = command([installed], "train", *settings, "--set", "options.levle=0.5", code=2)
    assert "unknown key 'levle'; did you mean 'level'?" in text
    text = command([installed], "train", *settings, "--data", tmp_path, code=2)
    assert "learns from no data set" in text
    command([installed], "train", *settings)
    assert json.loads((run / "training.json").read_text("utf-8"))["task"] == "example_task"
    text = command([installed], "evaluate", "--model", run)
    assert "seed_3" in text
    text = command([installed], "compare", run, run)
    assert "error, lower is better" in text
    text = command([installed], "predict", "--model", run, "--out", out, "--flips", "0", code=2)
    assert "--flips: is no option of the task example_task" in text
    text = command([installed], "evaluate", "--model", run, "--workers", "2", code=2)
    assert "--workers: the task example_task works in one process" in text
    registered = ["models", "register", run, "--name", "reach", "--tracking-uri", store]
    command([installed], *registered)
    promoted = ["models", "promote", "reach", "1", "--alias", "champion", "--tracking-uri", store]
    command([installed], *promoted)
    name = ("models:/reach@champion", "--tracking-uri", store)
    assert "identical" in command([installed], "models", "verify", *name)
    text = command([installed], "predict", "--model", *name, "--out", out)
    assert "seed 1: " in text
    assert len(json.loads((out / "predictions.json").read_text("utf-8"))) == 2
    text = command([], "predict", "--model", run, "--out", out, code=2)
    assert "Unknown task 'example_task'" in text


@pytest.mark.slow
def test_the_suite_of_engines_runs_for_an_engine_of_another_package(installed: Path) -> None:
    done = python(
        [installed], "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist",
        "-k", "example_engine", ROOT / "tests" / "nca" / "test_engines.py",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout


def test_listing_imports_no_plugin(installed: Path) -> None:
    program = """\
import sys
from medseg_nca.config.presets import NETWORKS, preset_names
from medseg_nca.losses import loss_names
from medseg_nca.nca.engines import ENGINES
assert "example_engine" in ENGINES.names and "example_network" in NETWORKS.names
assert "example_loss" in loss_names() and "example_nca" in preset_names("model")
assert not [name for name in sys.modules if name.startswith("medseg_nca_example")]
"""
    done = python([installed], "-c", program)
    assert done.returncode == 0, done.stderr
