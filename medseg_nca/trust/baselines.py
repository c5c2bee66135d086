"""Published measures of how good a mask is, by the differences of several stochastic passes.

They need no fit, and an estimate that was fitted should be better than they are.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg_nca.config import LabelTable
from medseg_nca.trust.features import BoolArray, dice

Chances = NDArray[np.float32]

# A probability of 0 has no logarithm; its share of the entropy is 0.
_SMALLEST = 1e-12


@dataclass(frozen=True)
class Baselines:
    """The measures of one label; each is None where its mask is empty.

    Attributes:
        nqm: of M3D-NCA; the lower, the better. None without at least two passes.
        pairwise_dice: mean Dice of the masks of any two passes. None without two passes.
        entropy: mean entropy in the mask, in nats; the lower, the better.
    """

    nqm: float | None
    pairwise_dice: float | None
    entropy: float | None


def baselines(passes: Iterable[Chances], labels: LabelTable) -> dict[str, Baselines]:
    """Return the measures of each label.

    With the mean probabilities of all passes, a label's mask is where it is the most probable, or
    with labels that may overlap, where it has at least 0.5.

    - NQM (Kalkhof and Mukhopadhyay, "M3D-NCA", MICCAI 2023): the standard deviation of the label's
      probability over the passes, summed over all voxels, divided by the voxels of the mask.
    - Pairwise Dice (Roy et al., "Bayesian QuickNAT", NeuroImage 2019): mean over pairs of passes.
    - Entropy of the mean probabilities, averaged over the mask; with labels that may overlap, that
      of the label and of its absence.

    Args:
        passes: probabilities ``(K, *S)`` of each pass, in channel order; at least one.
        labels: what the channels mean.
    """
    first = 0 if labels.multi_label else 1
    mean = squares = np.zeros(0, np.float32)
    masks: list[BoolArray] = []
    for number, chances in enumerate(passes, start=1):
        if number == 1:
            mean, squares = np.zeros_like(chances), np.zeros_like(chances)
        # Welford's recurrence: mean and sum of squared deviations, in one go.
        delta = chances - mean
        mean += delta / number
        squares += delta * (chances - mean)
        masks.append(_masks(chances, labels))
    deviation = np.sqrt(squares / len(masks))
    final = _masks(mean, labels)
    return {
        name: Baselines(
            _nqm(deviation[first + k], final[k], len(masks)),
            _pairwise([mask[k] for mask in masks]) if final[k].any() else None,
            _entropy(mean, first + k, final[k], labels.multi_label),
        )
        for k, name in enumerate(labels.names)
    }


def _masks(chances: Chances, labels: LabelTable) -> BoolArray:
    """Return the mask of each label, ``(L, *S)``."""
    if labels.multi_label:
        return np.asarray(chances >= 0.5)
    found = chances.argmax(0)
    return np.stack([found == k + 1 for k in range(len(labels.names))])


def _nqm(deviation: Chances, mask: BoolArray, passes: int) -> float | None:
    voxels = np.count_nonzero(mask)
    return float(deviation.sum(dtype=np.float64) / voxels) if voxels and passes > 1 else None


def _pairwise(masks: list[BoolArray]) -> float | None:
    found = [dice(one, two) for one, two in combinations(masks, 2)]
    return float(np.mean(found)) if found else None


def _entropy(mean: Chances, channel: int, mask: BoolArray, multi_label: bool) -> float | None:
    if not mask.any():
        return None
    inside: NDArray[Any] = mean[:, mask].astype(np.float64)
    chances = np.stack([inside[channel], 1 - inside[channel]]) if multi_label else inside
    shares = -chances * np.log(np.maximum(chances, _SMALLEST))
    return float(shares.sum(0).mean())
