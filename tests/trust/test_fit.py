"""What a training fits from answers whose Dice is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError

from medseg_nca.config.trust import MAX_PAIRS, GateSettings, TrustSection, case_digest
from medseg_nca.trust.fit import TrustRow, fit_section
from medseg_nca.trust.judge import Judge
from tests.trust.sections import rows_of, section_of


def test_new_answers_are_estimated_and_covered() -> None:
    section = fit_section(rows_of(30), confidence=0.9, corruptions=("noise",))
    assert section is not None
    assert section.cases == 30
    judge = Judge(section, GateSettings())
    errors, inside = [], []
    for row in rows_of(30, seed=9):
        features = {"a": row.features, "b": row.features}
        label = judge.estimate(features, {"a": False, "b": False}).labels[row.label]
        errors.append(abs(label.dice - row.dice))
        inside.append(label.low <= row.dice <= label.high)
    assert np.mean(errors) < 0.05
    assert 0.85 < np.mean(inside) < 0.96


def test_the_pairs_are_of_patients_that_the_trees_had_not_seen() -> None:
    """A feature that names the patient tells the Dice of known ones, and nothing of new ones."""
    rng = np.random.default_rng(0)
    rows = [
        TrustRow("a", f"p{p}", f"c{p}", n == 0, {"name": float(p), "x": rng.normal()}, dice)
        for p, dice in enumerate(rng.uniform(0, 1, 20))
        for n in range(10)
    ]
    section = fit_section(rows, confidence=0.9)
    assert section is not None
    pairs = section.pairs
    assert np.mean(np.abs(np.array(pairs.predicted) - np.array(pairs.true))) > 0.1


def test_the_same_rows_give_the_same_section() -> None:
    first, again = (fit_section(rows_of(6), confidence=0.9, seed=4) for _ in range(2))
    assert first == again


def test_the_section_knows_its_cases_and_counts_patients() -> None:
    rows = [replace(row, group=row.group[:-1] + "x") for row in rows_of(4)]
    assert fit_section(rows, confidence=0.9) is None  # all of one patient
    section = fit_section(
        rows_of(4) + [replace(r, case="again") for r in rows_of(4)], confidence=0.9
    )
    assert section is not None
    assert section.cases == 4
    assert section.fitted_on == tuple(map(case_digest, ["again", *(f"case{k}" for k in range(4))]))


def test_more_pairs_than_a_file_has_room_for_are_thinned() -> None:
    rows = rows_of(250)
    section = fit_section(rows, confidence=0.9)
    assert section is not None
    assert len(rows) > len(section.pairs.predicted) == MAX_PAIRS
    assert sum(section.pairs.clean) == sum(row.clean for row in rows)


@pytest.mark.parametrize("cases", [0, 1])
def test_too_few_patients_give_no_section(cases: int) -> None:
    assert fit_section(rows_of(cases), confidence=0.9) is None


def test_a_label_that_no_clean_answer_has_is_left_out() -> None:
    rows = [row for row in rows_of(6) if row.label == "a" or not row.clean]
    section = fit_section(rows, confidence=0.9)
    assert section is not None
    assert [scale.label for scale in section.scales] == ["a"]
    judge = Judge(section, GateSettings())
    features = rows[0].features
    there = judge.estimate({"a": features, "b": features}, {"a": False, "b": False})
    assert there.labels.keys() == {"a"}
    assert there.verdict != "accept"
    assert any(text.startswith("b: the estimate was fitted on no answer") for text in there.reasons)
    nothing = judge.estimate({"a": features, "b": features}, {"a": False, "b": True})
    assert nothing.labels["b"].empty


def test_a_section_survives_json_and_damaged_ones_are_refused() -> None:
    section = section_of([0.5], [0.5])
    text = section.model_dump_json()
    assert TrustSection.model_validate_json(text, strict=True) == section
    for damaged in (
        text.replace('"sd":[0.1', '"sd":[0.0'),
        text.replace('"feature":[2,', '"feature":[4,'),
        text.replace('"mean":[0.9,100.0]', '"mean":[0.9]'),
        text.replace('"true":[0.5]', '"true":[1.5]'),
        text.replace('"true":[0.5]', '"true":[]'),
        text.replace('"version":1', '"version":2'),
    ):
        assert damaged != text
        with pytest.raises(ValidationError):
            TrustSection.model_validate_json(damaged, strict=True)
