"""A package outside the tree adds one of each kind; a broken one harms only those who use it.

``tests/plugin_example`` is built and installed into a folder of its own, which only the processes
that are started here see.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

from medseg_nca.cli.main import OTHERS
from medseg_nca.config.presets import NETWORKS
from medseg_nca.datasets.adapters.phantom import write_phantom
from medseg_nca.datasets.find import ADAPTERS
from medseg_nca.datasets.find_classes import CLASS_LAYOUTS
from medseg_nca.io.read import read_volume
from medseg_nca.io.write import WRITERS
from medseg_nca.metrics.definitions import MASK_METRICS
from medseg_nca.nca.engines import ENGINES
from medseg_nca.tasks import TASKS

ROOT = Path(__file__).resolve().parent.parent
# A place for each kind; every one is broken in a way of its own.
BROKEN = """\
[medseg_nca.models]
bad_network = no_such_module
unet = no_such_module
[medseg_nca.adapters]
bad_layout = no_such_module
rude_layout = medseg_nca_rude
[medseg_nca.engines]
bad_engine = json
no_driver = medseg_nca_rude_engines:NO_DRIVER
no_answer = medseg_nca_rude_engines:NO_ANSWER
[medseg_nca.writers]
bad_format = json:dumps
[medseg_nca.metrics]
bad_metric = json:dumps
failing_metric = medseg_nca_rude_metric:FAILING
presence = medseg_nca_rude_metric:PRESENCE
[medseg_nca.losses]
bad_loss = medseg_nca_broken:stop
[medseg_nca.configs.model]
bad_preset = json
[medseg_nca.commands]
bad-command = no_such_module:command
example-count = no_such_module:command
"""


RUDE = """\
class Rude:
    layout, rank = "none", -1
    def recognises(self, path): raise KeyError("oh")
    def open(self, path): raise KeyError("oh")
ADAPTER = Rude()
"""


RUDE_ENGINES = """\
from medseg_nca.nca.engines import get_engine
Base = type(get_engine("reference"))
class NoDriver(Base):
    rank = 40
    def unusable(self, state): raise RuntimeError("driver is missing")
class NoAnswer(Base):
    rank = 30
    def refuses(self, cell, state): raise KeyError("oh")
NO_DRIVER, NO_ANSWER = NoDriver(), NoAnswer()
"""


RUDE_METRIC = """\
from medseg_nca.metrics.masks.base import Metric
FAILING = Metric("Failing", lambda pair: 1 / 0)
PRESENCE = Metric("Presence", lambda pair: 1.0)
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the example package, built and installed without a network."""
    pytest.importorskip("pip", reason="pip installs the example package")
    folder = tmp_path_factory.mktemp("plugin")
    source = shutil.copytree(ROOT / "tests" / "plugin_example", folder / "source")
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps",
         "--no-build-isolation", "--target", folder / "site", source],
        check=True, capture_output=True,
    )  # fmt: skip
    return folder / "site"


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a package whose entries cannot be used."""
    folder = tmp_path_factory.mktemp("broken")
    info = folder / "broken_plugin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken-plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(BROKEN)
    (folder / "medseg_nca_rude.py").write_text(RUDE)
    (folder / "medseg_nca_rude_engines.py").write_text(RUDE_ENGINES)
    (folder / "medseg_nca_rude_metric.py").write_text(RUDE_METRIC)
    (folder / "medseg_nca_broken.py").write_text("raise SystemExit(0)\n")
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set in the layout of the example."""
    folder = tmp_path_factory.mktemp("phantom") / "data"
    write_phantom(folder, cases=5, seed=1, dims=2, size=(24, 20))
    tree = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
    lines = [f"{case['image']} {case['label']}" for case in tree["training"]]
    (folder / "pairs.txt").write_text("\n".join(lines))
    return folder


def python(folders: list[Path], *args: object) -> subprocess.CompletedProcess[str]:
    """Run Python with the packages in some folders installed."""
    path = os.pathsep.join(map(str, [ROOT, *folders]))
    return subprocess.run(
        [sys.executable, *map(str, args)],
        env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True,
    )  # fmt: skip


def command(folders: list[Path], *args: object, code: int = 0) -> str:
    """Run ``medseg-nca`` and return what it printed, errors too."""
    done = python(folders, "-m", "medseg_nca", *args)
    said = done.stdout + done.stderr
    assert done.returncode == code, said
    assert "Traceback" not in said
    return said


def test_the_documentation_lists_what_the_example_adds() -> None:
    project = tomllib.loads((ROOT / "tests/plugin_example/pyproject.toml").read_text("utf-8"))
    used = set(project["project"]["entry-points"])
    text = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
    rows = [line.split("|") for line in text.splitlines() if line.startswith("| a")]
    listed = {row[3].strip(" `") for row in rows}
    assert listed == used
    kinds = (NETWORKS, ADAPTERS, CLASS_LAYOUTS, WRITERS, ENGINES, TASKS, MASK_METRICS)
    assert listed == {kind.others.group for kind in kinds} | {
        "medseg_nca.configs", "medseg_nca.configs.model", "medseg_nca.losses", OTHERS.group
    }  # fmt: skip


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
    for name in ("example_run", "example_nca", "example_network", "Two small levels"):
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


@pytest.fixture(scope="module")
def trained(
    installed: Path, data: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, str]:
    """A run of the example's preset, and what the training said."""
    run = tmp_path_factory.mktemp("trained") / "run"
    # Twelve iterations learn nothing, which is exit code 5 where it can be told.
    done = python(
        [installed], "-m", "medseg_nca", "train", "--config", "example_run", "--data", data,
        "--out", run,
    )  # fmt: skip
    assert done.returncode in {0, 5}, done.stderr
    return run, done.stderr


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
    # The model itself needs no package, but whoever asks for the engine does.
    text = command([], *words, "--engine", "example_engine", image, code=2)
    assert "Unknown engine 'example_engine'" in text


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


def test_a_metric_is_in_the_results_of_an_evaluation(
    installed: Path, data: Path, trained: tuple[Path, str], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    words = ("evaluate", "--model", trained[0], "--data", data, "--out", out)
    command([installed], *words)
    tree = json.loads((out / "metrics.json").read_text(encoding="utf-8"))
    assert "Jaccard: 0 if only one of the two has the label." in tree["rules"]
    values = [v for case in tree["cases"] for v in (*case["labels"].values(), case["merged"])]
    known = [(v["dice"], v["example_jaccard"]) for v in values if v["dice"] is not None]
    assert all(jaccard == pytest.approx(dice / (2 - dice), abs=2e-6) for dice, jaccard in known)
    program = """\
import numpy as np
from medseg_nca.metrics.segmentation import mask_metrics
found, true = np.array([[1, 1, 0]], dtype=bool), np.array([[0, 1, 1]], dtype=bool)
assert mask_metrics(found, true, (1, 1), 1.0)["example_jaccard"] == 1 / 3
"""
    done = python([installed], "-c", program)
    assert done.returncode == 0, done.stderr
    header = (out / "metrics.csv").read_text(encoding="utf-8").splitlines()[0]
    assert header.endswith("truth_volume,example_jaccard,seconds")
    assert ">Jaccard</th>" in (out / "report.html").read_text(encoding="utf-8")
    assert "Jaccard" in command([installed], "compare", out, out, "--metric", "example_jaccard")
    # Without the package the stored cases do not fit, and are measured without its column.
    command([], *words)
    assert "example_jaccard" not in (out / "metrics.csv").read_text(encoding="utf-8")


def test_a_metric_that_is_broken_or_fails_names_its_package(broken: Path) -> None:
    program = """\
import numpy as np
from medseg_nca.errors import PluginError
from medseg_nca.metrics.definitions import METRICS
from medseg_nca.metrics.segmentation import mask_metrics
mask = np.ones((3, 3), dtype=bool)
assert mask_metrics(mask, mask, (1, 1), 1.0, ["dice"]) == {"dice": 1.0}
assert "bad_metric" not in METRICS and "presence" not in METRICS
try:
    mask_metrics(mask, mask, (1, 1), 1.0)
except PluginError as error:
    print(error)
"""
    done = python([broken], "-c", program)
    assert done.returncode == 0, done.stderr
    assert "'failing_metric' of the package broken-plugin 1.0" in done.stdout
    assert "ZeroDivisionError" in done.stdout
    assert "'bad_metric' of the package broken-plugin 1.0" in done.stderr
    assert "a column of metrics.csv has that name already" in done.stderr


@pytest.mark.slow
def test_the_suite_of_engines_runs_for_an_engine_of_another_package(installed: Path) -> None:
    done = python(
        [installed], "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist",
        "-k", "example_engine", ROOT / "tests" / "nca" / "test_engines.py",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout


def test_a_name_that_is_the_librarys_stays_the_librarys(broken: Path) -> None:
    text = command([broken], "models", "describe", "unet")
    assert "The network 'unet' is the library's own" in text
    assert "broken-plugin 1.0" in text


def test_what_is_broken_harms_only_those_who_use_it(
    installed: Path, broken: Path, data: Path, tmp_path: Path
) -> None:
    both = [installed, broken]
    assert "bad-command" in command(both, "--help")
    assert "bad_preset" in command(both, "config", "list")
    text = command(both, "data", "list")
    assert "example_pairs" in text
    assert "'bad_layout' of the package broken-plugin 1.0" in text
    command(both, "models", "describe", "med_nca")
    text = command(both, "data", "check", data)
    assert "'rude_layout' of the package broken-plugin 1.0" in text
    assert "KeyError: 'oh'" in text


def test_auto_goes_on_after_an_engine_that_fails_to_answer(broken: Path) -> None:
    program = """\
import torch
from medseg_nca.nca import Fire
from medseg_nca.nca.engines import get_engine
from tests.nca.cells import make_cell
cell, fire = make_cell(2), Fire.for_batch(0.5, 0, 1)
state = torch.ones(1, 5, 6, 7, dtype=torch.float64)
auto = get_engine()
found = [auto.roll_out(cell, state, 2, fire) for _ in range(2)]
assert torch.equal(found[0], get_engine("cpu").roll_out(cell, state, 2, fire))
"""
    done = python([broken], "-c", program)
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stderr.splitlines() if "Engine:" in line] == [
        "Engine: cpu. Of the faster ones, "
        "no_driver cannot be used: RuntimeError: driver is missing (package broken-plugin 1.0); "
        "no_answer cannot be used: KeyError: 'oh' (package broken-plugin 1.0)."
    ]


def test_a_package_whose_files_are_not_utf8_is_left_out(broken: Path, tmp_path: Path) -> None:
    entries = "[medseg_nca.commands]\nodd-command = no_such_module:command\n"
    about = "Metadata-Version: 2.1\nName: {}\nVersion: 1.0\nAuthor: M\u00fcller\n"
    for name, codes in {
        "odd_about": ("latin-1", "utf-8"),
        "odd_list": ("utf-8", "latin-1"),
    }.items():
        info = tmp_path / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(about.format(name), encoding=codes[0])
        (info / "entry_points.txt").write_text(f"# M\u00fcller\n{entries}", encoding=codes[1])
    text = command([tmp_path, broken], "--help")
    for name in ("odd_about", "odd_list"):
        assert f"The entry points of the package in {tmp_path / name}-1.0.dist-info" in text
    assert "odd-command" not in text
    assert "bad-command" in text


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("bad-command",), "No module named 'no_such_module'"),
        (("models", "describe", "bad_network"), "No module named 'no_such_module'"),
        (("models", "describe", "bad_preset"), "there is no bad_preset.yaml in json"),
        (
            ("models", "describe", "med_nca", "--set", "model.engine=bad_engine"),
            "has no attribute 'ENGINE'",
        ),
    ],
)
def test_who_uses_what_is_broken_learns_whose_it_is(
    broken: Path, words: tuple[str, ...], reason: str
) -> None:
    text = command([broken], *words, code=2)
    assert "of the package broken-plugin 1.0" in text
    assert reason in text
    assert "Mend or uninstall that package" in text


def test_two_packages_that_claim_a_name_are_both_named(installed: Path, broken: Path) -> None:
    text = command([installed, broken], "example-count", "x", code=2)
    assert "medseg-nca-example 0.1" in text
    assert "broken-plugin 1.0" in text
    assert "Uninstall all but one" in text


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
