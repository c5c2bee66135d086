"""Sections and rows made by hand, for the tests of estimates."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from medseg_nca.config.trust import CalibrationPairs, LabelScale, Tree, TrustSection
from medseg_nca.trust.fit import TrustRow

FEATURES = ("agreement", "log_volume")


def section_of(
    predicted: Sequence[float],
    true: Sequence[float],
    *,
    labels: Sequence[str] = ("a",),
    cases: int = 30,
    novelty: float = 3.0,
    clean: Sequence[bool] | None = None,
) -> TrustSection:
    """A section whose predicted Dice is 0.9 where ``agreement`` is above 0.8, else 0.3."""
    return TrustSection(
        features=FEATURES,
        scales=tuple(LabelScale(label=name, mean=(0.9, 100.0), sd=(0.1, 10.0)) for name in labels),
        trees=(Tree(feature=(2, -1, -1), number=(-1.0, 0.3, 0.9), right=(2, 0, 0)),),
        pairs=CalibrationPairs(
            predicted=tuple(predicted),
            true=tuple(true),
            clean=tuple([True] * len(predicted) if clean is None else clean),
        ),
        cases=cases,
        novelty=novelty,
    )


def rows_of(cases: int, seed: int = 0, labels: Sequence[str] = ("a", "b")) -> list[TrustRow]:
    """Rows whose Dice is the agreement but for noise; half of them are of corrupted images."""
    rng = np.random.default_rng(seed)
    rows = []
    for case in range(cases):
        for number in range(12):
            clean = number == 0
            for label in labels:
                agreement = rng.uniform(0.75, 0.95) if clean else rng.uniform(0.1, 0.95)
                dice = float(np.clip(agreement + rng.normal(0, 0.03), 0, 1))
                features = {"agreement": float(agreement), "log_volume": float(rng.normal(100, 10))}
                rows.append(TrustRow(label, f"p{case}", f"case{case}", clean, features, dice))
    return rows
