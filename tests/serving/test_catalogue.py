"""Which models are served, and what happens when an alias moves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from medseg_nca.config.training import TrackingSettings
from medseg_nca.errors import ConfigError, ModelError
from medseg_nca.inference.spec import SPEC
from medseg_nca.serving.audit import AuditLog
from medseg_nca.serving.catalogue import Catalogue, ServedEntry, parse_models
from medseg_nca.serving.errors import Refused
from medseg_nca.serving.metrics import Metrics
from medseg_nca.tracking.registry import register
from medseg_nca.tracking.resolve import WEIGHTS, load_model
from medseg_nca.tracking.store import connect
from tests.tracking.tiny import make_run, new_store, save_tiny


def open_catalogue(
    folder: Path, entries: tuple[ServedEntry, ...], tracking: TrackingSettings | None = None
) -> Catalogue:
    folder.mkdir(exist_ok=True)
    audit = AuditLog(folder)
    return Catalogue(entries, folder / "models", tracking or TrackingSettings(), audit, Metrics())


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("zoo:hippocampus", {"hippocampus": "zoo:hippocampus"}),
        (
            "hippocampus@champion,zoo:hippocampus",
            {"hippocampus": "models:/hippocampus@champion", "hippocampus-zoo": "zoo:hippocampus"},
        ),
        ("models:/my model/3", {"my_model": "models:/my model/3"}),
        ("runs/first, runs/b/first", {"first": "runs/first", "first-2": "runs/b/first"}),
        ("spleen=zoo:nuclei", {"spleen": "zoo:nuclei"}),
    ],
)
def test_names_of_models(text: str, names: dict[str, str]) -> None:
    assert {entry.name: entry.reference for entry in parse_models([text])} == names


def test_names_that_cannot_be_served() -> None:
    with pytest.raises(ConfigError, match="used twice"):
        parse_models(["a=zoo:nuclei,a=zoo:hippocampus"])
    with pytest.raises(ConfigError, match="cannot stand in a URL"):
        parse_models(["a/b=zoo:nuclei"])


def test_a_model_that_does_not_exist_is_named_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="nucle"):
        open_catalogue(tmp_path, parse_models(["zoo:nucleo"]))
    catalogue = open_catalogue(tmp_path, parse_models(["zoo:nuclei"]))
    with pytest.raises(Refused, match="nuclei") as caught:
        catalogue.get("nucleo")
    assert caught.value.status == 404


def test_changed_weights_are_not_served(tmp_path: Path) -> None:
    save_tiny(tmp_path / "tiny")
    content = bytearray((tmp_path / "tiny" / WEIGHTS).read_bytes())
    content[-1] ^= 1
    (tmp_path / "tiny" / WEIGHTS).write_bytes(content)
    with pytest.raises(ModelError, match="not those that"):
        open_catalogue(tmp_path / "state", parse_models([str(tmp_path / "tiny")]))


def test_a_copy_that_was_changed_is_made_anew_and_not_loaded(tmp_path: Path) -> None:
    save_tiny(tmp_path / "tiny")
    entries = parse_models([str(tmp_path / "tiny")])
    info = open_catalogue(tmp_path / "state", entries).get("tiny").info
    info.check()
    whole = {path.name: path.read_bytes() for path in info.folder.iterdir()}
    for name in (SPEC, WEIGHTS):
        (info.folder / name).write_bytes(whole[name] + b" ")
        with pytest.raises(ModelError, match=f"{name} of model tiny was changed"):
            info.check()
        again = open_catalogue(tmp_path / "state", entries).get("tiny").info
        assert again == info
        assert {path.name: path.read_bytes() for path in again.folder.iterdir()} == whole


@pytest.mark.slow
def test_the_alias_is_followed_without_a_gap_and_back(tmp_path: Path) -> None:
    """In service is always one version; a candidate comes when it is warm, or never."""
    store = new_store(tmp_path / "store")
    for seed in (1, 2, 3):
        make_run(tmp_path / f"run{seed}", seed=seed)
        register(load_model(str(tmp_path / f"run{seed}"), "cpu"), "hippo", tracking=store)
    client = connect(str(store.uri))
    client.set_registered_model_alias("hippo", "champion", "1")
    catalogue = open_catalogue(tmp_path / "state", parse_models(["hippo@champion"]), store)

    def version() -> str:
        return catalogue.get("hippo").info.version

    assert version() == "1"
    assert not catalogue.look()
    client.set_registered_model_alias("hippo", "champion", "2")
    assert catalogue.look()
    assert [model.version for model in catalogue.wanted()] == ["1", "2"]
    catalogue.switch(lambda model: False)  # not warm yet
    assert version() == "1"
    catalogue.switch(lambda model: True)
    assert version() == "2"
    client.set_registered_model_alias("hippo", "champion", "1")  # the way back
    assert catalogue.look()
    catalogue.switch(lambda model: True)
    assert version() == "1"
    client.set_registered_model_alias("hippo", "champion", "2")
    assert catalogue.look()
    catalogue.switch(lambda model: "It cannot be loaded.")
    assert version() == "1"
    assert not catalogue.look()  # it is not tried for ever

    client.set_model_version_tag("hippo", "3", "weights_sha256", "0" * 64)
    client.set_registered_model_alias("hippo", "champion", "3")
    assert not catalogue.look()  # it was changed after it was registered
    assert version() == "1"
    text = (tmp_path / "state" / "audit.log").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert [(line["model"], line["outcome"]) for line in lines] == [
        ("hippo@2", "in service"),
        ("hippo@1", "in service"),
        ("hippo@2", "refused"),
        ("hippo@3", "refused"),
    ]
