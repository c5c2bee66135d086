"""Overrides, errors that name the key, and settings that survive a round trip through YAML."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from medseg_nca.config import RunSettings
from medseg_nca.config.loading import load_settings, parse_override, read_settings, to_yaml
from medseg_nca.errors import ConfigError


def test_an_override_reaches_a_nested_setting() -> None:
    settings = load_settings(
        "hippocampus_m3d",
        ["training.lr=1e-3", "model.levels.1.steps=[3, 5]", "training.loss.params={a: 1e-2}"],
    )
    assert settings.training.lr == 1e-3
    assert settings.model.family == "nca"
    assert settings.model.levels[1].steps == (3, 5)
    assert settings.training.loss.params == {"a": 0.01}


def test_without_a_preset_the_levels_are_those_of_the_plan() -> None:
    model = load_settings(None).model
    assert model.family == "nca"
    assert (model.name, model.levels) == ("pyramid_nca", "auto")


def test_later_overrides_win() -> None:
    settings = load_settings(None, ["model=unet", "seed=1", "seed=2"])
    assert (settings.model.name, settings.seed) == ("unet", 2)


@pytest.mark.parametrize("text", ["training.lr", "=3", "a..b=3", ".a=3", ""])
def test_a_malformed_override_is_shown_a_good_one(text: str) -> None:
    with pytest.raises(ConfigError, match="write it as key=value"):
        parse_override(text)


def test_an_override_with_broken_yaml_is_named() -> None:
    with pytest.raises(ConfigError, match="not valid YAML"):
        parse_override("training.lr={a")


@pytest.mark.parametrize(
    ("override", "complaint"),
    [
        ("trainng.lr=3", r"unknown key 'trainng'; did you mean 'training'\?"),
        ("training.lrr=3", r"unknown key 'training\.lrr'; did you mean 'lr'\?"),
        ("model.cell.chanels=3", r"'model\.cell\.chanels'; did you mean 'channels'\?"),
        ("model.levels=[{stepz: 3}]", r"'model\.levels\.0\.stepz'; did you mean 'steps'\?"),
        ("training.guard.zzz=3", r"Known here: factor, lr_factor, max_rollbacks"),
        ("data.split.folds=1", r"data\.split\.folds: .* greater than or equal to 2 \(got 1\)"),
        ("training.lr=fast", r"training\.lr: .* valid number"),
        ("training=5", r"training: .*TrainingSettings"),
        ("model.cell.update.norm=l2", r"'rms', 'batch' or 'batch_all' \(got 'l2'\)"),
        ("model.cell.perception.kernel=4", r"kernel must be odd, got 4"),
        ("model.levels=[{steps: -5}]", r"model\.levels\.0: steps must be"),
        ("model=unett", r"did you mean 'unet'\?"),
        ("model.family=cnn", r"model: Input tag 'cnn'"),
        ("data.labels={labels: [{name: a, values: [0]}]}", "0 is the background"),
    ],
)
def test_a_wrong_setting_is_named_with_what_is_allowed(override: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        load_settings(None, [override])


def test_all_faults_are_told_at_once() -> None:
    with pytest.raises(ConfigError, match=r"training\.batch_size: .*; training\.lr: "):
        load_settings(None, ["training.lr=-1", "training.batch_size=0"])


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        load_settings(None).seed = 3  # type: ignore[misc]


@settings(max_examples=15)
@given(
    seed=st.integers(0, 2**31),
    lr=st.floats(1e-8, 1e3),
    clip=st.none() | st.floats(1e-3, 1e3),
    name=st.text(st.characters(categories=("L", "N", "P", "Zs")), min_size=1, max_size=20),
)
def test_yaml_brings_back_the_same_settings(
    tmp_path_factory: pytest.TempPathFactory, seed: int, lr: float, clip: float | None, name: str
) -> None:
    base = load_settings(None).model_dump()
    training = base["training"] | {"lr": lr, "clip": clip}
    made = RunSettings(**(base | {"seed": seed, "name": name, "training": training}))
    file = tmp_path_factory.mktemp("settings") / "settings.yaml"
    file.write_text(to_yaml(made), encoding="utf-8")
    assert read_settings(file) == made


def test_resolved_settings_serve_as_a_preset(tmp_path: Path) -> None:
    settings = load_settings(None, ["model=octree_nca", "training.ema=null"])
    file = tmp_path / "settings.yaml"
    file.write_text(to_yaml(settings))
    assert load_settings(str(file)) == settings


def test_a_file_that_holds_something_else_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text("model: 3\n")
    with pytest.raises(ConfigError, match=r"settings\.yaml: model"):
        read_settings(file)


def test_what_older_versions_do_not_know_is_written_only_where_it_is_set() -> None:
    assert "validate_steps" not in to_yaml(load_settings(None))
    made = load_settings(None, ["training.validate_steps=[1, 4]"])
    assert made.training.validate_steps == (1, 4)
    assert yaml.safe_load(to_yaml(made))["training"]["validate_steps"] == [1, 4]
