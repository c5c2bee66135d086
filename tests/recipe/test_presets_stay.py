"""The shipped presets and the published models keep the settings that they had."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from medseg_nca.config.loading import load_settings

# Written before settings could be left to the recipe.
BEFORE: dict[str, dict[str, Any]] = json.loads(
    Path(__file__).with_name("presets.json").read_text(encoding="utf-8")
)


def assert_holds(before: Any, now: Any, key: str) -> None:
    """Every value of before is there still; new settings may have come."""
    if isinstance(before, dict):
        for name, value in before.items():
            assert_holds(value, now[name], f"{key}.{name}")
    else:
        assert now == before, key


@pytest.mark.parametrize("name", BEFORE["run"])
def test_a_preset_leaves_nothing_to_the_recipe(name: str) -> None:
    settings = load_settings(name)
    assert settings.undecided == ()
    assert_holds(BEFORE["run"][name], settings.model_dump(mode="json"), name)


@pytest.mark.parametrize("name", BEFORE["model"])
def test_a_published_model_stays_as_it_is(name: str) -> None:
    settings = load_settings(None, [f"model={name}"])
    assert not [key for key in settings.undecided if key.startswith("model.")]
    assert_holds(BEFORE["model"][name], settings.model.model_dump(mode="json"), name)
