"""Figures of estimates of quality: that they are drawn, for few masks and many scores too."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medseg_nca.viz.canvas import PALETTE
from medseg_nca.viz.trust import Estimated, plot_estimates, plot_risk_coverage

BEST = ([0.5, 1.0], [0.1, 0.2])


def colours(path: Path) -> set[str]:
    """The colours of the palette that a picture has."""
    with Image.open(path) as picture:
        found = np.asarray(picture.convert("RGB"), dtype=int)
    wanted = {shade: [int(shade[i : i + 2], 16) for i in (1, 3, 5)] for shade in PALETTE}
    return {shade for shade, rgb in wanted.items() if (np.abs(found - rgb).max(-1) < 12).any()}


def test_each_score_has_a_line(tmp_path: Path) -> None:
    curves = {f"score {k}": ([0.5, 1.0], [0.12 + k / 100, 0.2]) for k in range(4)}
    path = plot_risk_coverage(curves, tmp_path / "a" / "risk.png", best=BEST, title="$x$")
    assert {PALETTE[k] for k in (6, 0, 2, 3)} <= colours(path)
    path = plot_risk_coverage({}, tmp_path / "none.png", best=BEST)
    assert not colours(path) & {PALETTE[k] for k in (6, 0, 2, 3)}


def test_a_single_mask_is_a_point(tmp_path: Path) -> None:
    path = plot_risk_coverage({"s": ([1.0], [0.2])}, tmp_path / "r.png", best=([1.0], [0.2]))
    assert PALETTE[6] in colours(path)


@pytest.mark.parametrize("names", [("clean",), ("clean", "corrupted")])
def test_estimates(tmp_path: Path, names: tuple[str, ...]) -> None:
    masks = Estimated([0.1, 0.9], [0.2, 0.8], [0.1, 0.7], [0.3, 0.9])
    path = plot_estimates(dict.fromkeys(names, masks), tmp_path / "e.png")
    assert (PALETTE[0] in colours(path)) == (len(names) == 2)
