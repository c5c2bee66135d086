"""Whether an image is like those that a model learned from, and what is done if it is not.

An automaton works voxel by voxel: a step is a step from a cell to its neighbour, however many
millimetres that is. So an image of another spacing looks to it like another organ (measured figures
in docs/data.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from medseg_nca.config import PreprocessPlan
from medseg_nca.config.plan import TrainingImages
from medseg_nca.transforms.fingerprint import CaseFingerprint
from medseg_nca.transforms.grid import Grid, axis_codes, axis_order

# A spacing within this factor of the training's range is left as it is.
LIKE = 1.2
# Voxels larger than the training's largest by more than this lack details that the model knows.
COARSE = 1.5
# Images smaller or larger than the training's by more than this show something else.
SIZE = 2.0


@dataclass(frozen=True)
class Likeness:
    """How an image compares with those of the training.

    Attributes:
        plan: for this image; its spacing is decided.
        spacing: the image's own, mm, per axis of the plan.
        target: the spacing that the model sees.
        brought: that the spacing, unlike the training's, was brought to it; None if it was not.
        unlike: in what the image is unlike those of the training; nothing can be done about it.
    """

    plan: PreprocessPlan
    spacing: tuple[float, ...]
    target: tuple[float, ...]
    brought: str | None = None
    unlike: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """For lists of results: ``spacing`` that the model saw, ``brought`` and ``unlike``."""
        return {
            "spacing": [float(f"{v:.6g}") for v in self.target],
            "brought": self.brought,
            "unlike": list(self.unlike),
        }


def compare(grid: Grid, plan: PreprocessPlan, *, match: bool = True) -> Likeness:
    """Compare an image with those of the training.

    Args:
        grid: of the image.
        plan: of the model; without ``training`` nothing is found.
        match: bring the spacing, where the plan leaves it, into the training's range. An axis that
            is within a factor of :data:`LIKE` of it stays.
    """
    codes = axis_codes(grid)
    order = axis_order(codes, plan.orientation)
    own = tuple(grid.spacing[k] for k in order)
    known = plan.training
    if known is None:
        return Likeness(plan, own, plan.spacing or own)
    near = _matched(own, known)
    target = plan.spacing or (near if match else own)
    if plan.spacing is None and target != own:
        plan = plan.changed(spacing=target)
    size = [grid.shape[k] * grid.spacing[k] for k in order]
    unlike = [*_coarse(own, known), *_size(size, known)]
    if plan.orientation is None and "".join(codes) not in known.orientations:
        unlike.append(f"its axes point to {''.join(codes)}, not {' or '.join(known.orientations)}")
    brought = None
    if near != own:
        words = f"spacing {_mm(own)}"
        if target == own:
            unlike.append(f"its {words} is not brought to {_mm(near)}, as the training had it")
        else:
            brought = f"{words} brought to {_mm(target)}, as in the training"
    return Likeness(plan, own, target, brought, tuple(unlike))


def training_images(
    cases: Mapping[str, CaseFingerprint], orientation: str | None
) -> TrainingImages:
    """What the images of a data set are like, for the plan of the models that learn from it."""
    rows, sizes = [], []
    for case in cases.values():
        order = axis_order(case.codes, orientation)
        rows.append([case.spacing[k] for k in order])
        sizes.append([case.shape[k] * case.spacing[k] for k in order])
    spacing, size = np.array(rows), np.array(sizes)
    return TrainingImages(
        spacing=_digits(np.median(spacing, axis=0)),
        finest=_digits(spacing.min(0)),
        coarsest=_digits(spacing.max(0)),
        smallest=_digits(size.min(0)),
        largest=_digits(size.max(0)),
        orientations=tuple(sorted({"".join(case.codes) for case in cases.values()})),
    )


def _matched(own: Sequence[float], known: TrainingImages) -> tuple[float, ...]:
    """The nearest spacing of the training, for axes that are not like it."""
    return tuple(
        value if low / LIKE <= value <= high * LIKE else min(max(value, low), high)
        for value, low, high in zip(own, known.finest, known.coarsest, strict=True)
    )


def _coarse(own: tuple[float, ...], known: TrainingImages) -> list[str]:
    if all(v <= COARSE * high for v, high in zip(own, known.coarsest, strict=True)):
        return []
    return [
        f"its voxels ({_mm(own)}) are more than {COARSE:g} times as large as the largest of the "
        f"training ({_mm(known.coarsest)})"
    ]


def _size(size: Sequence[float], known: TrainingImages) -> list[str]:
    ranges = list(zip(size, known.smallest, known.largest, strict=True))
    if all(low / SIZE <= value <= high * SIZE for value, low, high in ranges):
        return []
    return [
        f"it shows {_mm(size, 1)}; images of the training show {_mm(known.smallest, 1)} to "
        f"{_mm(known.largest, 1)}"
    ]


def _mm(values: Sequence[float], whole_from: float = 1000) -> str:
    shown = (f"{v:.0f}" if v >= whole_from else f"{v:.3g}" for v in values)
    return f"{' x '.join(shown)} mm"


def _digits(values: np.ndarray) -> tuple[float, ...]:
    """Keep five digits: further ones are rounding in headers."""
    return tuple(float(f"{v:.5g}") for v in values)
