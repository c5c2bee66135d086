"""Convert between targets in their unit and the standardised values that the network learns."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg_nca.tasks.regression.options import RegressionFacts, TargetFacts, Transform

Floats = NDArray[np.float32]


def standardised(targets: NDArray[Any], facts: RegressionFacts) -> Floats:
    """Bring targets ``(K, *S)``, NaN where unknown, to mean 0 and standard deviation 1."""
    result = np.empty(targets.shape, np.float32)
    for index, known in enumerate(facts.targets):
        values = targets[index].astype(np.float64)
        if facts.transform == "log":
            values = np.log(values)
        result[index] = (values - known.mean) / known.sd
    return result


def restored_values(values: Floats, facts: RegressionFacts) -> Floats:
    """Bring standardised values ``(K, *S)`` back to the targets' unit, in place."""
    for index, known in enumerate(facts.targets):
        channel = values[index]
        channel *= known.sd
        channel += known.mean
        if facts.transform == "log":
            np.clip(channel, *facts.log_bounds[index], out=channel)
            np.exp(channel, out=channel)
    return values


class TargetSums:
    """Collects, case by case, the statistics of :class:`TargetFacts`.

    Args:
        transform: transform of the targets, as in the options.
    """

    def __init__(self, transform: Transform) -> None:
        self.transform = transform
        self._rows: list[NDArray[np.float64]] = []

    def add(self, targets: NDArray[Any]) -> None:
        """Add a case's targets ``(K, *S)``, NaN where unknown; each has a known voxel."""
        rows = []
        for channel in targets:
            known = channel[~np.isnan(channel)].astype(np.float64)
            learned = np.log(known) if self.transform == "log" else known
            rows.append([
                known.size, known.mean(), known.var(), learned.mean(), learned.var(),
                known.min(), known.max(),
            ])  # fmt: skip
        self._rows.append(np.array(rows))

    def facts(self, names: tuple[str, ...]) -> tuple[TargetFacts, ...]:
        """Return the statistics of each target over all cases."""
        rows = np.stack(self._rows)  # (cases, K, 7)
        found = []
        for index, name in enumerate(names):
            count, mean, variance, learned, learned_variance, low, high = rows[:, index].T
            average, spread = _pooled(count, mean, variance)
            middle, sd = _pooled(count, learned, learned_variance)
            found.append(TargetFacts(
                name=name, mean=middle, sd=sd, average=average, spread=spread,
                low=float(low.min()), high=float(high.max()),
            ))  # fmt: skip
        return tuple(found)


def _pooled(
    count: NDArray[np.float64], mean: NDArray[np.float64], variance: NDArray[np.float64]
) -> tuple[float, float]:
    """Return mean and standard deviation of all voxels, from those of each case."""
    middle = float(np.average(mean, weights=count))
    spread = float(np.average(variance + (mean - middle) ** 2, weights=count)) ** 0.5
    return middle, spread
