""" "auto": what nobody names is left to the recipe, and is written as it was read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from medseg_nca.config import RunSettings
from medseg_nca.config.auto import LEFT_TO_PLAN, LEFT_TO_RECIPE, value_at
from medseg_nca.config.loading import load_settings, read_settings, to_yaml
from medseg_nca.errors import ConfigError


def test_without_a_preset_everything_is_left_to_the_recipe() -> None:
    settings = load_settings(None)
    assert set(settings.undecided) == set(LEFT_TO_RECIPE)
    tree = settings.model_dump(mode="json")
    assert all(value_at(tree, key) == "auto" for key in (*LEFT_TO_RECIPE, *LEFT_TO_PLAN))
    # Whoever uses them before the recipe finds numbers.
    assert (settings.training.batch_size, settings.model.dims) == (2, 3)


def test_what_is_named_is_decided_and_auto_takes_it_back() -> None:
    settings = load_settings(None, ["training.lr=1e-3"])
    assert "training.lr" not in settings.undecided
    assert settings.training.lr == 1e-3
    again = load_settings("hippocampus_m3d", ["training.lr=auto", "augment.flip_axes=auto"])
    assert set(again.undecided) == {"training.lr", "augment.flip_axes"}


def test_a_file_without_a_model_leaves_the_rest_open(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("training: {lr: 1.0e-3, warmup: 0.02}\n", encoding="utf-8")
    settings = load_settings(str(file))
    assert settings.training.warmup == 0.02
    assert set(LEFT_TO_RECIPE) - set(settings.undecided) == {"training.lr", "training.warmup"}


def test_a_network_has_no_cell_to_decide() -> None:
    settings = load_settings(None, ["model=unet"])
    assert not [key for key in settings.undecided if key.startswith("model.")]
    assert "training.lr" in settings.undecided


def test_yaml_keeps_what_is_undecided(tmp_path: Path) -> None:
    settings = load_settings(None, ["training.workers=3"])
    file = tmp_path / "settings.yaml"
    file.write_text(to_yaml(settings), encoding="utf-8")
    assert read_settings(file) == settings
    assert settings != load_settings(None)


def test_values_decide() -> None:
    settings = load_settings(None).with_values({"training.lr": 5e-4, "augment.flip_axes": [1]})
    assert (settings.training.lr, settings.augment.flip_axes) == (5e-4, (1,))
    assert len(settings.undecided) == len(LEFT_TO_RECIPE) - 2
    assert settings.model_copy(update={"seed": 3}).undecided == settings.undecided


def test_auto_is_refused_where_nothing_decides() -> None:
    with pytest.raises(ConfigError, match=r"training\.gamma: .*valid number"):
        load_settings(None, ["training.gamma=auto"])


@pytest.mark.parametrize("value", ["0", "-0.5", "1.5"])
def test_a_rhythm_is_iterations_or_a_share(value: str) -> None:
    with pytest.raises(ConfigError, match=r"training\.validate_every"):
        load_settings(None, [f"training.validate_every={value}"])
    assert load_settings(None, ["training.validate_every=0.1"]).training.validate_every == 0.1


def test_the_schema_of_every_such_field_allows_the_word() -> None:
    """So that an editor does not underline it."""
    schema = RunSettings.model_json_schema()
    found = json.dumps(schema).count('{"const": "auto"}')
    assert found == len(LEFT_TO_RECIPE)
