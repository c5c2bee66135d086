"""What a model carries to estimate its own answers, as plain numbers, and the settings of it."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from medseg_nca.config.base import Settings
from medseg_nca.config.bounds import MAX_LABELS, Name

# Far beyond what a fit makes, near enough that a file from elsewhere cannot fill the memory.
MAX_FEATURES, MAX_TREES, MAX_NODES, MAX_PAIRS = 200, 1000, 10_000, 5000

Number = Annotated[float, Field(allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
Numbers = Annotated[tuple[Number, ...], Field(max_length=MAX_FEATURES)]
CaseDigest = Annotated[str, Field(pattern=r"^[0-9a-f]{12}$")]
FeatureIndex = Annotated[int, Field(ge=-1, lt=2 * MAX_FEATURES)]


def case_digest(case: str) -> str:
    """Return what a section keeps of the id of a case, which may name a patient."""
    return hashlib.sha256(case.encode("utf-8", "surrogateescape")).hexdigest()[:12]


class GateSettings(Settings):
    """When a mask is accepted, should be reviewed, or is rejected.

    acceptable: the Dice below which a mask counts as bad. miss_rate: the share of bad masks that
    may be accepted, and of good ones that may be rejected; smaller values send more to review.
    """

    acceptable: float = Field(0.8, gt=0, lt=1)
    miss_rate: float = Field(0.05, gt=0, lt=0.5)


class TrustSettings(Settings):
    """How a training fits the estimate of quality that its model carries.

    fit: whether it does. cases: how many validation cases at most. corruptions: names of the
    artificial faults; None takes all. confidence: of the interval of the predicted Dice.
    max_share: of ``training.max_minutes``, how much time the fit may take besides them; images with
    faults are left out beyond it. Without such a limit it takes all.
    """

    fit: bool = True
    cases: int = Field(40, ge=1)
    corruptions: tuple[str, ...] | None = None
    confidence: float = Field(0.9, gt=0.5, lt=1)
    max_share: float = Field(0.1, gt=0, allow_inf_nan=False)


class Tree(Settings):
    """A regression tree, its nodes in the order root, left branch, right branch.

    feature: index of the feature that a node looks at, -1 for a leaf. number: the value of a leaf;
    of another node the threshold, up to which a value goes left. right: place of the first node of
    the right branch, 0 for a leaf; the left branch begins at the next node.
    """

    feature: tuple[FeatureIndex, ...] = Field(min_length=1, max_length=MAX_NODES)
    number: tuple[Number, ...] = Field(max_length=MAX_NODES)
    right: tuple[int, ...] = Field(max_length=MAX_NODES)

    @model_validator(mode="after")
    def _sound(self) -> Self:
        count = len(self.feature)
        if len(self.number) != count or len(self.right) != count:
            raise ValueError("a tree has as many entries in each of its lists")
        for node, (feature, right) in enumerate(zip(self.feature, self.right, strict=True)):
            # Children come after their parent, so that every way through the tree ends.
            if feature >= 0 and not node + 1 < right < count:
                raise ValueError(f"node {node} of a tree has its right branch at {right}")
        return self


class LabelScale(Settings):
    """Mean and spread of each feature over answers to clean images, for one label."""

    label: Name
    mean: Numbers
    sd: Numbers


class CalibrationPairs(Settings):
    """Predicted and true Dice of cases that the predicting trees had not seen.

    clean: whether the image was without an artificial fault.
    """

    predicted: tuple[Share, ...] = Field(min_length=1, max_length=MAX_PAIRS)
    true: tuple[Share, ...] = Field(max_length=MAX_PAIRS)
    clean: tuple[bool, ...] = Field(max_length=MAX_PAIRS)

    @model_validator(mode="after")
    def _paired(self) -> Self:
        if not len(self.predicted) == len(self.true) == len(self.clean):
            raise ValueError("predicted, true and clean must have as many entries")
        return self


class TrustSection(Settings):
    """How a model estimates the Dice of its own answers (``trust`` in ``model.json``).

    features: names of the features; trees count them as they are, then again scaled. scales: one
    for each label that is estimated. trees: their mean is the predicted Dice. pairs: what intervals
    and gate are computed from. confidence: of the interval. cases: how many cases it was fitted on,
    those of one patient being one. fitted_on: what tells which images (:func:`case_digest`).
    corruptions: names of the faults that it was fitted on. novelty: the largest distance from clean
    images that is usual (:func:`medseg_nca.trust.judge.distance`). prediction: the settings that it
    was fitted with, as far as they change answers.
    """

    version: Literal[1] = 1
    features: tuple[Name, ...] = Field(min_length=1, max_length=MAX_FEATURES)
    scales: tuple[LabelScale, ...] = Field(min_length=1, max_length=MAX_LABELS)
    trees: tuple[Tree, ...] = Field(min_length=1, max_length=MAX_TREES)
    pairs: CalibrationPairs
    confidence: float = Field(0.9, gt=0.5, lt=1)
    cases: int = Field(ge=1)
    fitted_on: Annotated[tuple[CaseDigest, ...], Field(max_length=MAX_PAIRS)] = ()
    corruptions: tuple[Name, ...] = Field((), max_length=MAX_FEATURES)
    novelty: float = Field(gt=0, allow_inf_nan=False)
    prediction: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _fitting(self) -> Self:
        count = len(self.features)
        if any(len(scale.mean) != count or len(scale.sd) != count for scale in self.scales):
            raise ValueError(f"scales must have a number for each of the {count} features")
        if any(sd <= 0 for scale in self.scales for sd in scale.sd):
            raise ValueError("the sd of a scale must be above 0")
        if any(feature >= 2 * count for tree in self.trees for feature in tree.feature):
            raise ValueError(f"a tree asks for a feature beyond the {count} features")
        return self
