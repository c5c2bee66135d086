"""A training lets its model estimate its own answers, and the command does so for older models."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from medseg_nca.cli.trust import trust as command
from medseg_nca.config import RunSettings
from medseg_nca.config.loading import load_settings
from medseg_nca.config.trust import TrustSettings
from medseg_nca.datasets.adapters.phantom import write_phantom
from medseg_nca.datasets.splits import read_split
from medseg_nca.errors import ConfigError, DataError, OutputError
from medseg_nca.inference.bundle import load_bundle
from medseg_nca.inference.predictor import Predictor
from medseg_nca.io.read import read_volume
from medseg_nca.pipelines import train
from medseg_nca.pipelines import trust as pipeline
from medseg_nca.tasks.base import TrustRequest
from medseg_nca.tracking.resolve import load_model

TINY = [
    "training.iterations=24", "training.max_minutes=null", "training.validate_every=24",
    "training.checkpoint_every=24", "training.warmup=0", "data.split.val=0.4",
    "preprocess.crop_size=[16,16]", "tracking.enabled=false", "training.batch_size=2",
    "model.levels=[{scale: 2, steps: [2, 3]}, {scale: 1, steps: 2, patch: 8}]",
    "trust.corruptions=[noise, orientation]",
]  # fmt: skip


def tiny(*more: str) -> RunSettings:
    return load_settings("demo", [*TINY, *more])


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_phantom(
        tmp_path_factory.mktemp("phantom") / "data", cases=10, seed=1, dims=2, size=(24, 20)
    )


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run") / "run"
    train.run(data, out, tiny())
    return out


@pytest.fixture
def older(run: Path, tmp_path: Path) -> Path:
    """A run whose model carries no section, as those of older versions."""
    shutil.copytree(run, tmp_path / "older")
    file = tmp_path / "older" / "model" / "model.json"
    tree = json.loads(file.read_text("utf-8"))
    assert tree.pop("trust")
    file.write_text(json.dumps(tree), "utf-8")
    return tmp_path / "older"


def test_a_trained_model_estimates_its_answers(run: Path, data: Path) -> None:
    loaded = load_bundle(run / "model", "cpu")
    section = loaded.spec.trust
    assert section is not None
    assert section.cases == len(read_split(run / "split.json").val) == 4
    assert section.corruptions == ("noise", "orientation")
    assert sum(section.pairs.clean) <= 4 * len(loaded.spec.labels.names)
    assert section.prediction["flips"] == list(loaded.spec.prediction.flip_axes)
    image = read_volume(next(iter(sorted((data / "imagesTr").iterdir()))))
    found = Predictor(loaded).predict(image).estimate
    assert found.verdict in {"accept", "review", "reject"}
    assert found.few
    assert found.labels


def test_the_same_seed_gives_the_same_section(run: Path, data: Path, tmp_path: Path) -> None:
    train.run(data, tmp_path / "again", tiny())
    first, again = (load_bundle(folder / "model", "cpu") for folder in (run, tmp_path / "again"))
    assert first.spec.trust == again.spec.trust


@pytest.mark.parametrize("change", ["trust.fit=false", "training.iterations=20"])
def test_a_training_can_do_without(change: str, data: Path, tmp_path: Path) -> None:
    train.run(data, tmp_path / "run", tiny(change))
    assert load_bundle(tmp_path / "run" / "model", "cpu").spec.trust is None


def test_the_command_adds_a_section_to_an_older_run(older: Path, run: Path, data: Path) -> None:
    before = (older / "model" / "weights.safetensors").read_bytes()
    arguments = ["--model", str(older), "--data", str(data), "--corruption", "noise",
                 "--corruption", "orientation", "--json"]  # fmt: skip
    result = CliRunner().invoke(command, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    told = json.loads(result.stdout)
    assert told["cases"] == 4
    assert told["corruptions"] == ["noise", "orientation"]
    assert (older / "model" / "weights.safetensors").read_bytes() == before
    # It is the section that the training would have fitted.
    assert load_bundle(older / "model").spec.trust == load_bundle(run / "model").spec.trust


def test_a_model_outside_a_run_is_copied(older: Path, data: Path, tmp_path: Path) -> None:
    loose = tmp_path / "loose"
    shutil.copytree(older / "model", loose / "model")
    shutil.copy(older / "split.json", loose / "split.json")
    settings = TrustSettings(corruptions=("noise",))
    request = TrustRequest(load_model(str(loose / "model")), data, "val", settings)
    with pytest.raises(OutputError, match="does not lie in a run"):
        pipeline.run(request)
    made = pipeline.run(request, tmp_path / "copy")
    assert load_model(str(tmp_path / "copy")).spec == made.spec
    assert load_bundle(loose / "model").spec.trust is None
    assert read_split(tmp_path / "copy" / "split.json") == read_split(older / "split.json")


def test_bad_requests_name_what_is_wrong(older: Path, tmp_path: Path) -> None:
    one = write_phantom(tmp_path / "one", cases=1, seed=3, dims=2, size=(24, 20))
    loaded = load_model(str(older))
    with pytest.raises(DataError, match=r"1 cases .* are too few"):
        pipeline.run(TrustRequest(loaded, one, "all", TrustSettings(corruptions=("noise",))))
    with pytest.raises(ConfigError, match="corruption"):
        pipeline.run(TrustRequest(loaded, one, "all", TrustSettings(corruptions=("fog",))))
    assert load_bundle(older / "model").spec.trust is None
