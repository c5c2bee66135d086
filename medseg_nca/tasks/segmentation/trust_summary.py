"""What the rows of a study of estimates say: scores compared, faults, and verdicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any, Literal

import numpy as np

from medseg_nca.metrics.trust import (
    RiskCoverage,
    Values,
    auroc_of_bad,
    interval_coverage,
    known_pairs,
    mean_absolute_error,
    pearson,
    risk_coverage,
    selective_risk,
    spearman,
)
from medseg_nca.tasks.segmentation.trust_cases import CLEAN, MaskRow, RefusedImage
from medseg_nca.trust.estimate import VERDICTS

Tree = dict[str, Any]
Rows = Sequence[MaskRow]
GROUPS = ("clean", "corrupted", "all")
_DIGITS = 6


@dataclass(frozen=True)
class Score:
    """A score that is compared with the others.

    Attributes:
        title: how tables call it.
        field: the field of a row that holds it.
        sign: 1 if higher means better, -1 if lower does.
        is_dice: whether its values are those of a Dice, so that it has an error.
        fitted: whether it is the model's own estimate. Rows without one are left out; a baseline
            without a value is one of an empty mask, which counts as the worst.
    """

    title: str
    field: str
    sign: Literal[1, -1] = 1
    is_dice: bool = False
    fitted: bool = False


SCORES = {
    "estimate": Score("model's estimate", "predicted", is_dice=True, fitted=True),
    "nqm": Score("NQM", "nqm", -1),
    "pairwise_dice": Score("pairwise Dice", "pairwise_dice", is_dice=True),
    "entropy": Score("entropy", "entropy", -1),
}


def in_group(rows: Rows, group: str) -> list[MaskRow]:
    """Return the rows of "clean" images, of "corrupted" ones, or "all"."""
    return [row for row in rows if group == "all" or (row.corruption == CLEAN) == (group == CLEAN)]


def values_of(rows: Rows, score: Score) -> tuple[Values, Values]:
    """Return a score, turned so that higher means better, and the true Dice, of rows that have it.

    A baseline has no value for an empty mask: it then counts as the worst mask among the rows, so
    that all baselines are compared on the same masks. Without any value there are no rows.
    """
    raw = [getattr(row, score.field) for row in rows]
    found = [None if value is None else score.sign * value for value in raw]
    known = [value for value in found if value is not None]
    if known and not score.fitted:
        worst = 0.0 if score.is_dice else min(known)
        found = [worst if value is None else value for value in found]
    return known_pairs(found, [row.dice for row in rows])


def curve_of(rows: Rows, score: Score) -> RiskCoverage | None:
    """Return the curve of risk and coverage of a score; None if no row has it."""
    scores, dice = values_of(rows, score)
    return risk_coverage(scores, dice) if len(dice) else None


def summarise_study(
    rows: Rows, refused: Sequence[RefusedImage], corruptions: Sequence[str], acceptable: float
) -> Tree:
    """Return the numbers of the study as plain values.

    Args:
        rows: a row for each mask.
        refused: images without an answer.
        corruptions: names of the faults.
        acceptable: the Dice below which a mask is bad.
    """
    return {
        "scores": {
            group: {
                name: _score(in_group(rows, group), score, acceptable)
                for name, score in SCORES.items()
            }
            for group in GROUPS
        },
        "faults": {
            name: _fault([row for row in rows if row.corruption == name], refused, name)
            for name in (CLEAN, *corruptions)
        },
        "verdicts": {
            group: _verdicts(in_group(rows, group), acceptable, "verdict") for group in GROUPS
        },
        # The same masks by the verdict on their whole image, which other labels and what is new
        # about the image decide too.
        "image_verdicts": {
            group: _verdicts(in_group(rows, group), acceptable, "image_verdict") for group in GROUPS
        },
        "images": _images(rows, refused),
    }


def _score(rows: Rows, score: Score, acceptable: float) -> Tree:
    found, dice = values_of(rows, score)
    # The Dice of an empty mask is 0 by definition, which takes no skill to predict.
    there = [row for row in rows if not row.empty]
    guessed = values_of(there, score)
    risk = selective_risk(found, dice)
    numbers = {
        "spearman": spearman(*guessed),
        "pearson": pearson(*guessed),
        "mae": mean_absolute_error(*guessed) if score.is_dice else None,
        "coverage": _coverage(there) if score.fitted else None,
        "auroc_bad": auroc_of_bad(found, dice, acceptable),
    }
    if risk is not None:
        numbers |= {
            "aurc": risk.aurc, "best_aurc": risk.best, "random_aurc": risk.random,
            "e_aurc": risk.excess, "naurc": risk.normalised,
        }  # fmt: skip
    else:
        numbers |= dict.fromkeys(("aurc", "best_aurc", "random_aurc", "e_aurc", "naurc"))
    return {
        "n": len(dice),
        "empty": len(rows) - len(there),
        **{name: _rounded(value) for name, value in numbers.items()},
    }


def _coverage(rows: Rows) -> float | None:
    ends = [(row.low, row.high, row.dice) for row in rows if row.low is not None]
    low, high, dice = np.array(ends, np.float64).reshape(-1, 3).T
    return interval_coverage(low, high, dice)


def _fault(rows: Rows, refused: Sequence[RefusedImage], name: str) -> Tree:
    there = [row for row in rows if not row.empty]
    found, dice = values_of(there, SCORES["estimate"])
    numbers = {
        "spearman": spearman(found, dice),
        "mae": mean_absolute_error(found, dice),
        "mean_dice": mean(row.dice for row in rows) if rows else None,
        "mean_predicted": float(found.mean()) if len(found) else None,
    }
    return {
        "n": len(rows),
        **{key: _rounded(value) for key, value in numbers.items()},
        "verdicts": {v: sum(row.verdict == v for row in rows) for v in VERDICTS},
        "refused": sum(image.corruption == name for image in refused),
    }


def _verdicts(rows: Rows, acceptable: float, field: str) -> Tree:
    """Return how many good and bad masks got each verdict."""
    good = [getattr(row, field) for row in rows if row.dice >= acceptable]
    bad = [getattr(row, field) for row in rows if row.dice < acceptable]
    return {v: {"good": good.count(v), "bad": bad.count(v)} for v in VERDICTS}


def _images(rows: Rows, refused: Sequence[RefusedImage]) -> Mapping[str, int]:
    answered = {(row.case, row.corruption, row.strength) for row in rows}
    return {"with_masks": len(answered), "refused": len(refused)}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, _DIGITS)
