"""Along which axes may a sample be flipped? Where its labels lie tells it.

A flip along an axis makes images that could be real only if the anatomy has no side there. Two
signs say that it has one: a label lies consistently on one side of another (the right ventricle of
the left), or consistently in one half of the image. Both are measured over the training cases,
from the centres that the preprocessing stored. Without enough cases nothing is flipped: a wrong
flip teaches nonsense, a missing one costs little.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medseg_nca.datasets.prepared import PreparedCase
from medseg_nca.recipe.numbers import LEAST_CASES, MIRROR_MEAN, MIRROR_MIX, MIRROR_NEAR

Centre = tuple[float, ...]
# The name of the middle of all labels together.
_ALL = "all labels"


@dataclass(frozen=True)
class Side:
    """How consistently something lies on one side along one axis, over the training cases.

    Attributes:
        what: two labels, or one and the middle of the image.
        mean, sd: of the difference, as shares of the image.
        mix: share of the cases that have the rarer sign, at most 0.5.
    """

    what: str
    mean: float
    sd: float
    mix: float

    @property
    def one_sided(self) -> bool:
        """Whether a flip would bring it to where it never is."""
        if abs(self.mean) <= MIRROR_NEAR:
            return False
        return abs(self.mean) > MIRROR_MEAN * self.sd or self.mix < MIRROR_MIX

    def in_words(self) -> str:
        """The numbers."""
        return f"{self.what} {self.mean:+.3f} +- {self.sd:.3f}, {self.mix:.0%} the other way"


@dataclass(frozen=True)
class Symmetry:
    """Which axes are mirrors, and why.

    Attributes:
        axes: that may be flipped.
        reason: with the numbers.
    """

    axes: tuple[int, ...]
    reason: str


def mirror_axes(cases: Sequence[PreparedCase], names: Sequence[str], dims: int) -> Symmetry:
    """Find the axes along which the labels have no side.

    Args:
        cases: of the training.
        names: of the labels.
        dims: axes of the images.
    """
    centres = [_with_all(case) for case in cases if case.centres]
    if not centres and any(sum(case.foreground.values()) for case in cases):
        return Symmetry((), "prepared before the places of labels were stored: prepare it anew")
    if len(centres) < LEAST_CASES:
        return Symmetry(
            (), f"{len(centres)} labelled training cases; {LEAST_CASES} are needed to tell"
        )
    present = [name for name in names if any(name in found for found in centres)]
    for name in present:
        count = sum(name in found for found in centres)
        if count < LEAST_CASES:
            what = f"the label {name!r} is in {count} training cases"
            return Symmetry((), f"{what}; {LEAST_CASES} are needed to tell")
    nowhere = (np.nan,) * dims
    places = np.array([[c.get(name, nowhere) for name in (*present, _ALL)] for c in centres])
    found, words = [], []
    for axis in range(dims):
        sides = list(_sides(places[:, :, axis], present))
        sided = max((s for s in sides if s.one_sided), key=_clearness, default=None)
        if sided is None:
            found.append(axis)
        shown = sided or max(sides, key=_clearness)
        words.append(f"axis {axis} {'has sides' if sided else 'is a mirror'}: {shown.in_words()}")
    return Symmetry(tuple(found), "; ".join(words))


def _sides(places: NDArray[np.float64], names: Sequence[str]) -> Iterator[Side]:
    """Every pair of labels, every label and all of them against the middle, along one axis.

    Args:
        places: of the labels and of all together, ``(cases, labels + 1)``; NaN where there is none.
        names: of the labels.
    """
    for number, name in enumerate(names):
        differences = places[:, [number]] - places[:, number + 1 : -1]
        yield from _measured(differences, [f"{name} to {other}" for other in names[number + 1 :]])
    alone = [*names, _ALL] if len(names) > 1 else list(names)
    words = [f"{name} to the middle" for name in alone]
    yield from _measured(places[:, : len(alone)] - 0.5, words)


def _measured(differences: NDArray[np.float64], words: Sequence[str]) -> Iterator[Side]:
    """One for each column ``(cases, words)`` with any number in it."""
    for column, what in zip(differences.T, words, strict=True):
        values = column[~np.isnan(column)]
        if not values.size:
            continue
        above = float((values > 0).mean())
        # Few pairs say little, because their spread is not known.
        sd = float(values.std(ddof=1)) if values.size >= LEAST_CASES else 0.0
        yield Side(what, float(values.mean()), sd, min(above, 1 - above))


def _clearness(side: Side) -> float:
    return abs(side.mean) / max(side.sd, 1e-6)


def _with_all(case: PreparedCase) -> dict[str, Centre]:
    """The centres of a case, and that of its labels together."""
    sizes = [case.foreground.get(name, 0) or 1 for name in case.centres]
    together = np.average(list(case.centres.values()), axis=0, weights=sizes)
    return {**case.centres, _ALL: tuple(together.tolist())}
