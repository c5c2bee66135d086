"""Presets are found by name or path, composed, and refused with the nearest name."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from medseg_nca.config.loading import load_settings
from medseg_nca.config.model import GenericModelSettings
from medseg_nca.config.presets import (
    compose,
    describe_preset,
    load_preset,
    merge,
    parse_yaml,
    preset_names,
    read_yaml,
)
from medseg_nca.errors import ConfigError
from medseg_nca.models import build_model

MODELS = preset_names("model")


@pytest.mark.parametrize("name", preset_names())
def test_every_run_preset_gives_valid_settings(name: str) -> None:
    assert load_settings(name).model.name


@pytest.mark.parametrize("name", MODELS)
def test_every_model_preset_gives_valid_settings(name: str) -> None:
    assert load_settings(None, [f"model={name}"]).model.name == name


@pytest.mark.parametrize(
    ("name", "group"),
    [*((n, "") for n in preset_names()), *((n, "model") for n in MODELS)],
)
def test_every_preset_says_what_it_is_for(name: str, group: str) -> None:
    assert describe_preset(name, group)


def test_merge_goes_into_mappings_and_replaces_the_rest() -> None:
    base = {"a": {"b": 1, "c": [1, 2]}, "d": 4}
    assert merge(base, {"a": {"c": [3]}, "e": 5}) == {"a": {"b": 1, "c": [3]}, "d": 4, "e": 5}
    assert base == {"a": {"b": 1, "c": [1, 2]}, "d": 4}


def test_merge_changes_one_item_of_a_list() -> None:
    assert merge({"a": [{"b": 1}, {"b": 2}]}, {"a": {"1": {"b": 3}}}) == {"a": [{"b": 1}, {"b": 3}]}
    with pytest.raises(ConfigError, match=r"a\.2: the list has items 0 to 1"):
        merge({"a": [1, 2]}, {"a": {"2": 3}})


def test_a_named_model_replaces_the_one_before() -> None:
    tree = compose({"model": {"name": "old", "levels": [1]}}, {"model": "unet"})
    assert tree["model"]["name"] == "unet"
    assert "levels" not in tree["model"]


def test_a_preset_extends_another_and_changes_its_model(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("model: med_nca\ntraining: {lr: 1e-2, batch_size: 7}\n")
    child = tmp_path / "child.yaml"
    child.write_text("extends: base.yaml\nmodel: {cell: {channels: 24}}\ntraining: {lr: 3e-4}\n")
    settings = load_settings(str(child))
    assert settings.model.name == "med_nca"
    assert settings.model.family == "nca"
    assert settings.model.cell.channels == 24
    assert settings.training.lr == 3e-4
    assert settings.training.batch_size == 7


def test_a_preset_replaces_the_model_of_the_one_it_extends(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("model: {preset: med_nca, cell: {channels: 24}}\n")
    child = tmp_path / "child.yaml"
    child.write_text("extends: base.yaml\nmodel: unet\n")
    model = load_settings(str(child)).model
    assert (model.family, model.name) == ("generic", "unet")


def test_a_model_may_be_a_file_beside_the_preset(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("family: nca\nname: mine\ndims: 2\n")
    run = tmp_path / "run.yaml"
    run.write_text("model: {preset: ./mine.yaml, dims: 3}\n")
    model = load_settings(str(run)).model
    assert (model.name, model.dims) == ("mine", 3)


@pytest.mark.parametrize("length", [1, 2, 3])
def test_presets_in_a_circle_are_refused(tmp_path: Path, length: int) -> None:
    for index in range(length):
        text = f"extends: p{(index + 1) % length}.yaml\n"
        (tmp_path / f"p{index}.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"circle: p0 -> .*p0"):
        load_preset(str(tmp_path / "p0.yaml"))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("a: [1", "is not valid YAML"),
        ("- 1\n- 2\n", "not a list"),
        ("training: {lr: 1, lr: 2}\n", "'lr' is given twice, again in line 1"),
        ("extends: [a, b]\n", "extends must be one preset's name"),
        ("extends: nowhere.yaml\n", "no such settings file"),
        ("!!python/object/apply:os.system ['true']", "is not valid YAML"),
    ],
)
def test_a_bad_file_is_named(tmp_path: Path, text: str, complaint: str) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=complaint):
        load_preset(str(file))


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_yaml(tmp_path)
    with pytest.raises(ConfigError, match="no such settings file"):
        load_preset(str(tmp_path / "none.yaml"))


def test_an_empty_file_means_the_defaults(tmp_path: Path) -> None:
    file = tmp_path / "empty.yaml"
    file.write_text("# nothing\n")
    assert load_settings(str(file)) == load_settings(None)


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-3", 1e-3), ("1E6", 1e6), ("-2e+1", -20.0), ("1.5e-3", 1.5e-3), ("e5", "e5"), ("3", 3)],
)
def test_yaml_reads_numbers_as_people_write_them(text: str, value: object) -> None:
    assert parse_yaml(text) == value
    assert type(parse_yaml(text)) is type(value)


def test_a_preset_is_described_by_its_first_sentence(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("# Livers on two\n# cores. Slow.\nname: liver\n# not this\n")
    assert describe_preset(str(file)) == "Livers on two cores"
    file.write_text("name: liver\n")
    assert describe_preset(str(file)) == ""


def test_an_automaton_of_ones_own_is_one_file(tmp_path: Path) -> None:
    text = "family: nca\nname: mine\ndims: 2\nlevels: [{scale: 1, steps: 3}]\n"
    (tmp_path / "mine.yaml").write_text(text)
    model = load_settings(None, (f"model={tmp_path / 'mine.yaml'}",)).model
    built = build_model(model.model_copy(update={"in_channels": 1, "out_channels": 2}))
    assert built(torch.zeros(1, 1, 8, 9)).shape == (1, 2, 8, 9)


def test_a_network_that_does_not_exist_is_named() -> None:
    with pytest.raises(ConfigError, match="Unknown network 'unett'; did you mean 'unet'"):
        build_model(GenericModelSettings(name="unett", in_channels=1, out_channels=2))
