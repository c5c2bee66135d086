"""Verdicts and their reasons."""

from __future__ import annotations

import pytest

from medseg_nca.config.trust import GateSettings
from medseg_nca.trust.estimate import Estimate, LabelEstimate, unknown, worst
from medseg_nca.trust.judge import Judge
from tests.trust.sections import section_of

# Of 40 masks that are predicted as 0.3 all are bad, of 40 as 0.9 all are good.
PREDICTED, TRUE = [0.3] * 40 + [0.9] * 40, [0.25] * 40 + [0.92] * 40
GOOD, BAD = {"agreement": 0.9, "log_volume": 100.0}, {"agreement": 0.7, "log_volume": 100.0}


def judge_of(labels: tuple[str, ...] = ("a",), cases: int = 30, novelty: float = 3.0) -> Judge:
    return Judge(
        section_of(PREDICTED, TRUE, labels=labels, cases=cases, novelty=novelty), GateSettings()
    )


def test_a_good_answer_is_accepted() -> None:
    found = judge_of().estimate({"a": GOOD}, {"a": False})
    assert found.verdict == "accept"
    assert found.reasons == ()
    assert found.dice == 0.9
    assert found.labels["a"].low <= 0.92 <= found.labels["a"].high
    assert not found.few


def test_the_worst_label_decides_and_is_named() -> None:
    found = judge_of(("a", "b")).estimate({"a": GOOD, "b": BAD}, {"a": False, "b": False})
    assert found.verdict == "reject"
    assert [label.verdict for label in found.labels.values()] == ["accept", "reject"]
    assert found.dice == pytest.approx(0.6)
    (reason,) = found.reasons
    assert reason.startswith("b: the predicted Dice is 0.30 (")
    assert "accepted from 0.80" in reason


def test_an_empty_mask_is_never_accepted_and_gets_no_made_up_dice() -> None:
    found = judge_of().estimate({"a": GOOD}, {"a": True})
    assert found.verdict == "review"
    assert found.labels["a"] == LabelEstimate(0.0, 0.0, 1.0, "review", True)
    assert found.reasons == ("a: the answer has no voxel of it.",)


def test_a_doubt_from_elsewhere_ends_acceptance() -> None:
    found = judge_of().estimate({"a": GOOD}, {"a": False}, ["The image is unlike others."])
    assert found.verdict == found.labels["a"].verdict == "review"
    assert found.reasons == ("The image is unlike others.",)


def test_what_no_clean_image_looked_like_is_not_accepted() -> None:
    far = {"agreement": 0.9, "log_volume": 160.0}  # six spreads away: a distance of sqrt(18)
    found = judge_of(novelty=4.0).estimate({"a": far}, {"a": False})
    assert found.verdict == "review"
    assert "distance 4.2, usual up to 4.0" in found.reasons[0]
    assert judge_of(novelty=4.3).estimate({"a": far}, {"a": False}).verdict == "accept"


def test_few_cases_are_told_and_the_interval_is_wide() -> None:
    found = judge_of(cases=6).estimate({"a": GOOD}, {"a": False})
    assert found.few
    assert "fitted on 6 cases" in found.reasons[-1]
    assert found.labels["a"].high - found.labels["a"].low > 0.1
    assert found.verdict == "accept"


def test_a_gate_that_the_fit_knows_too_little_for_accepts_nothing() -> None:
    section = section_of([0.9] * 40, [0.92] * 40)
    found = Judge(section, GateSettings()).estimate({"a": GOOD}, {"a": False})
    assert found.verdict == found.labels["a"].verdict == "review"
    assert any("too few bad masks" in reason for reason in found.reasons)


@pytest.mark.parametrize("features", [{}, {"agreement": 0.9}, {**GOOD, "agreement": float("nan")}])
def test_features_that_are_missing_or_no_numbers_are_never_taken_for_usual(
    features: dict[str, float],
) -> None:
    found = judge_of().estimate({"a": features}, {"a": False})
    assert found.verdict == "unknown"
    assert found.dice is None
    assert "is not known here" in found.reasons[0]


def test_a_strict_gate_accepts_less() -> None:
    section = section_of(PREDICTED, TRUE)
    strict = Judge(section, GateSettings(acceptable=0.95)).estimate({"a": GOOD}, {"a": False})
    assert strict.verdict != "accept"


def test_an_estimate_can_be_written_and_read() -> None:
    for found in (
        judge_of(("a", "b")).estimate({"a": GOOD, "b": BAD}, {"a": False, "b": True}),
        unknown("There is nothing to tell."),
    ):
        read = Estimate.from_dict(found.to_dict())
        assert read.to_dict() == found.to_dict()
        assert read.verdict == found.verdict
    with pytest.raises(ValueError, match="verdict"):
        Estimate.from_dict({**unknown("x").to_dict(), "verdict": "perfect"})


def test_words_for_the_terminal() -> None:
    assert judge_of().estimate({"a": GOOD}, {"a": False}).in_short == "accept, Dice about 0.90"
    assert unknown("x").in_short == "unknown"
    assert worst([]) == "unknown"
    assert worst(["accept", "reject", "review"]) == "reject"
