"""Settings that are changed are checked like those of a file."""

from __future__ import annotations

from typing import Any

import pytest

from medseg_nca.config.labels import Label, LabelTable
from medseg_nca.config.loading import load_settings
from medseg_nca.config.training import PredictionSettings
from medseg_nca.errors import ConfigError


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"seed": -5}, r"^seed: .* greater than or equal to 0 \(got -5\)\.$"),
        ({"seed": 2**63}, "^seed: "),
        ({"memory_budget_gb": -1.0}, r"^memory_budget_gb: .* greater than 0"),
        ({"memory_budget_gb": float("nan")}, "^memory_budget_gb: "),
        ({"flips": (0, 0)}, "flips must name each axis once"),
        ({"fire": "men"}, r"^fire: .*'sample' or 'mean'"),
        ({"sed": 1}, r"^unknown key 'sed'; did you mean 'seed'\?"),
    ],
)
def test_a_wrong_value_is_refused_by_name(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        PredictionSettings().changed(**values)


def test_what_is_not_named_stays() -> None:
    settings = PredictionSettings(seed=3, flips=(1,))
    changed = settings.changed(uncertainty=4)
    assert (changed.seed, changed.flips, changed.uncertainty) == (3, (1,), 4)
    assert settings.uncertainty == 0
    assert changed.model_fields_set == {"seed", "flips", "uncertainty"}


def test_rules_over_several_values_hold() -> None:
    table = LabelTable(labels=(Label(name="a", values=(1,)),))
    with pytest.raises(ConfigError, match="label names must differ"):
        table.changed(labels=(*table.labels, *table.labels))


def test_what_is_undecided_stays_so() -> None:
    settings = load_settings(None)
    assert settings.undecided
    assert settings.changed(seed=3).undecided == settings.undecided
