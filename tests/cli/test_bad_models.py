"""Bad models through the command line: a word on file and field, exit code 2, nothing written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from medseg_nca.config.training import TrackingSettings
from medseg_nca.datasets.adapters.phantom import write_phantom
from medseg_nca.errors import ModelError
from medseg_nca.inference.bundle import SPEC, WEIGHTS, file_sha256
from medseg_nca.pipelines import register
from medseg_nca.tracking.resolve import HASH_TAGS
from medseg_nca.tracking.store import connect, store_uri
from tests.cli.runner import complains, run
from tests.tracking.tiny import make_run, new_store

Change = Callable[[bytes], bytes]


def replaced(old: str, new: str) -> Change:
    """Another text in one place; the test fails where the file has nothing to replace."""

    def change(content: bytes) -> bytes:
        assert old.encode() in content
        return content.replace(old.encode(), new.encode(), 1)

    return change


# File, what becomes of it (None: it is gone), words of the refusal.
FAULTS: dict[str, tuple[str, Change | None, str]] = {
    "truncated": (WEIGHTS, lambda b: b[:-50], "is truncated"),
    "flipped bit": (WEIGHTS, lambda b: b[:-1] + bytes([b[-1] ^ 1]), "sha256"),
    "no weights": (WEIGHTS, lambda b: b"hello, hello", "is not a safetensors file"),
    "missing": (WEIGHTS, None, "cannot be read"),
    "no JSON": (SPEC, lambda b: b[:-5], "is not valid JSON"),
    "a list": (SPEC, lambda b: b"[]", "format_version"),
    "endless": (SPEC, lambda b: b + b" " * 2**20, "is longer than 1,048,576 bytes"),
    "key": (SPEC, replaced('"plan"', '"plam"'), "unknown key 'plam'; did you mean 'plan'?"),
    "newer": (SPEC, replaced('"format_version": 1', '"format_version": 2'), "format_version is"),
    "hidden": (SPEC, replaced('"hidden": 8', '"hidden": 9'), "model.cell.update.hidden says 9"),
    "huge": (SPEC, replaced('"hidden": 8', '"hidden": 1000000000'), "model.cell.update.hidden"),
    "channels": (SPEC, replaced('"channels": 8', '"channels": 1e9'), "model.cell.channels"),
    "no steps": (SPEC, replaced('"steps": 4', '"steps": 0'), "steps must be a number"),
    "all steps": (SPEC, replaced('"steps": 4', '"steps": 1000000000'), "from 1 to 10000"),
    "true": (SPEC, replaced('"steps": 4', '"steps": true'), "model.levels.0.steps"),
    "label": (SPEC, replaced("2\n", "1\n"), "written as numbers that differ"),
    "crop": (SPEC, replaced("12,", "200000,"), "crop_size"),
}


def put(folder: Path, fault: str) -> str:
    name, change, words = FAULTS[fault]
    content = (folder / name).read_bytes()
    (folder / name).unlink()
    if change is not None:
        (folder / name).write_bytes(change(content))
    return words


@pytest.fixture
def model(tmp_path: Path) -> Path:
    make_run(tmp_path / "run", dims=2)
    return tmp_path / "run" / "model"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bad_models") / "data"
    return write_phantom(folder, cases=1, seed=1, dims=2, size=(24, 20))


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("command", ["predict", "verify"])
def test_a_bad_model(model: Path, data: Path, tmp_path: Path, fault: str, command: str) -> None:
    words = put(model, fault)
    out = tmp_path / "out"
    if command == "predict":
        result = run("predict", "--model", model.parent, "--out", out, data / "imagesTr")
    else:
        result = run("models", "verify", model.parent)
    complains(result, model / FAULTS[fault][0], words, "Next: ")
    assert not out.exists()


@pytest.mark.parametrize("fault", ["hidden", "huge", "no steps", "no weights"])
@pytest.mark.parametrize("command", ["describe", "register", "export", "evaluate"])
def test_every_other_command_refuses_it(
    model: Path, data: Path, tmp_path: Path, fault: str, command: str
) -> None:
    words = put(model, fault)
    out, store = tmp_path / "out", new_store(tmp_path / "store")
    arguments: dict[str, tuple[object, ...]] = {
        "describe": ("models", "describe", model),
        "register": ("models", "register", model, "--name", "x", "--tracking-uri", store.uri),
        "export": ("models", "export", model, "--to", out),
        "evaluate": ("evaluate", "--model", model, "--data", data, "--out", out),
    }
    complains(run(*arguments[command]), model / FAULTS[fault][0], words, "Next: ")
    assert not out.exists()


@pytest.mark.parametrize("name", ["nonsense", "zoo:nonsense", "models:/x", "runs:/../x", "/"])
def test_a_model_that_is_none(data: Path, tmp_path: Path, name: str) -> None:
    out = tmp_path / "out"
    complains(run("predict", "--model", name, "--out", out, data / "imagesTr"), "Next: ")
    assert not out.exists()


def registered(folder: Path, fault: str) -> tuple[TrackingSettings, Path]:
    """A version whose model.json is hostile, and whose tags say that it is as registered."""
    store = new_store(folder / "store")
    make_run(folder / "to_register", dims=2)
    register.run(folder / "to_register", "bad", tracking=store)
    (stored,) = (folder / "store" / "mlartifacts").rglob(f"artifacts/{SPEC}")
    put(stored.parent, fault)
    client = connect(store_uri(store.uri))
    client.set_model_version_tag("bad", "1", HASH_TAGS[SPEC], file_sha256(stored))
    return store, stored.parent


def test_a_hostile_version_of_the_registry(data: Path, tmp_path: Path) -> None:
    store, _ = registered(tmp_path, "huge")
    at = ("--tracking-uri", store.uri)
    words, out = FAULTS["huge"][2], tmp_path / "out"
    images = data / "imagesTr"
    complains(run("predict", "--model", "models:/bad/1", "--out", out, *at, images), words)
    complains(run("models", "export", "models:/bad/1", "--to", out, *at), words)
    complains(run("models", "verify", "models:/bad/1", *at), words)
    assert not out.exists()


def test_mlflow_refuses_it_too(tmp_path: Path) -> None:
    import mlflow

    _, artifacts = registered(tmp_path, "no steps")
    with pytest.raises(ModelError, match="steps must be a number"):
        mlflow.pyfunc.load_model(str(artifacts.parent))
