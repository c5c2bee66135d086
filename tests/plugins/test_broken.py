"""Packages whose plug-ins are broken harm only those who use them, and are named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.plugins.conftest import train_example
from tests.plugins.processes import command, python

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
def trained(
    installed: Path, data: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, str]:
    """A run whose model is the library's own, so that it is read without the package."""
    return train_example(installed, data, tmp_path_factory, "--set", "model=backbone_nca")


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
