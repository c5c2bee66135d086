"""What rows of a study of estimates add up to, by hand."""

from __future__ import annotations

import pytest

from medseg_nca.tasks.segmentation.trust_cases import CLEAN, MaskRow, RefusedImage
from medseg_nca.tasks.segmentation.trust_summary import SCORES, summarise_study, values_of
from medseg_nca.tasks.segmentation.trust_tables import fault_table, score_table, verdict_table
from medseg_nca.trust.corruptions import fault_seed


def row(
    corruption: str,
    dice: float,
    predicted: float | None,
    verdict: str,
    nqm: float | None = None,
    entropy: float | None = 0.1,
    image: str | None = None,
) -> MaskRow:
    """A mask whose interval reaches 0.1 to each side."""
    low, high = (None, None) if predicted is None else (predicted - 0.1, predicted + 0.1)
    return MaskRow(
        "c", corruption, int(corruption != CLEAN), "a", dice, predicted, low, high, verdict,
        image or verdict, nqm, None, entropy,
    )  # fmt: skip


ROWS = [
    row(CLEAN, 0.9, 0.85, "accept", nqm=0.1),
    row(CLEAN, 0.7, 0.75, "review", nqm=0.3),
    row("noise", 0.5, 0.9, "accept", nqm=0.2, image="review"),
    row("noise", 0.0, 0.2, "reject", entropy=None),
    row("blur", 0.8, 0.6, "reject", nqm=0.4),
]
REFUSED = [RefusedImage("c", "blur", 3, "No.")]


def summary() -> dict:
    tree = summarise_study(ROWS, REFUSED, ("blur", "noise"), 0.8)
    return {**tree, "acceptable": 0.8, "estimates": True, "cases": ["c"], "notes": []}


def test_scores_by_hand() -> None:
    scores = summary()["scores"]
    own = scores["all"]["estimate"]
    # Errors 0.05, 0.05, 0.4, 0.2, 0.2; two masks lie within 0.1 of their estimate.
    assert own["n"] == 5
    assert own["mae"] == pytest.approx(0.18)
    assert own["coverage"] == pytest.approx(0.4)
    # Ranks of the estimate 4, 3, 5, 1, 2 and of the Dice 5, 3, 2, 1, 4: 1 - 6 * 14 / 120.
    assert own["spearman"] == pytest.approx(0.3)
    # Kept in the order 0.5, 0.9, 0.7, 0.8, 0: risks 0.5, 0.6/2, 0.9/3, 1.1/4, 2.1/5.
    assert own["aurc"] == pytest.approx((0.5 + 0.3 + 0.3 + 0.275 + 0.42) / 5)
    # The best order is 0.9, 0.8, 0.7, 0.5, 0: risks 0.1, 0.15, 0.2, 0.275, 0.42.
    assert own["best_aurc"] == pytest.approx(1.145 / 5)
    assert own["random_aurc"] == pytest.approx(0.42)
    assert own["e_aurc"] == pytest.approx(0.13)
    assert own["naurc"] == pytest.approx(0.13 / (0.42 - 0.229), abs=1e-6)
    # Bad are 0.7, 0.5 and 0; of six pairs with a good mask, 0.75 < 0.85 and 0.2 < 0.85, 0.6.
    assert own["auroc_bad"] == pytest.approx(3 / 6)
    assert scores["clean"]["estimate"]["spearman"] == pytest.approx(1)
    assert scores["corrupted"]["estimate"]["n"] == 3


def test_baselines_are_turned_and_empty_masks_are_the_worst() -> None:
    found, dice = values_of(ROWS, SCORES["nqm"])
    assert found.tolist() == pytest.approx([-0.1, -0.3, -0.2, -0.4, -0.4])
    assert len(dice) == 5
    scores = summary()["scores"]["all"]
    assert scores["nqm"]["mae"] is None
    assert scores["nqm"]["coverage"] is None
    # A score that no row has is left out of every comparison.
    assert scores["pairwise_dice"]["n"] == 0
    assert scores["pairwise_dice"]["aurc"] is None


def test_masks_without_an_estimate_are_left_out_of_its_numbers() -> None:
    rows = [*ROWS, row("noise", 0.3, None, "unknown", nqm=0.5)]
    tree = summarise_study(rows, REFUSED, ("noise",), 0.8)
    assert tree["scores"]["all"]["estimate"] == summary()["scores"]["all"]["estimate"]
    assert tree["scores"]["all"]["nqm"]["n"] == 6
    assert tree["verdicts"]["all"]["unknown"] == {"good": 0, "bad": 1}


def test_faults_by_hand() -> None:
    tree = summary()
    assert list(tree["faults"]) == [CLEAN, "blur", "noise"]
    noise = tree["faults"]["noise"]
    assert noise["mean_dice"] == pytest.approx(0.25)
    assert noise["mean_predicted"] == pytest.approx(0.55)
    assert noise["mae"] == pytest.approx(0.3)
    assert noise["spearman"] == pytest.approx(1)
    assert noise["verdicts"] == {"accept": 1, "review": 0, "reject": 1, "unknown": 0}
    assert tree["faults"]["blur"]["refused"] == 1
    assert fault_table(tree).rows[1] == (
        "blur", "1", "–", "0.200", "0.800", "0.600", "0", "0", "1", "1",
    )  # fmt: skip


def test_verdicts_by_hand() -> None:
    """0.8 itself is good: of two good masks one is rejected; of three bad ones one is accepted."""
    tree = summary()
    assert tree["verdicts"]["all"]["accept"] == {"good": 1, "bad": 1}
    table = verdict_table(tree)
    assert table.rows[2][-2:] == ("1 (20.0 %)", "1 (20.0 %)")
    assert table.summary == (
        "Bad masks accepted: 1 of 3 (33.3 %); good masks rejected: 1 of 2 (50.0 %). "
        "By the verdict on the whole image: 0 of 3 (0.0 %) and 1 of 2 (50.0 %)."
    )


def test_the_main_table_has_a_row_for_each_score_and_group() -> None:
    table = score_table(summary())
    assert len(table.rows) == 12
    assert table.columns[-2:] == ("AUROC Dice<0.8", "masks")
    assert table.rows[8][:3] == ("model's estimate", "all", "0.300")
    assert table.summary == "Cases: 1; images with masks: 3; images refused: 1."


def test_the_seed_of_a_fault_is_the_same_in_every_process() -> None:
    assert fault_seed("case", "noise", 1) == 8231310023159621856
    seeds = {fault_seed(case, kind, s) for case in "ab" for kind in ("x", "y") for s in (1, 2, 3)}
    assert len(seeds) == 12
