"""What a model carries to estimate its own answers, as plain numbers, and the settings of it."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from medseg_nca.config.base import Settings
from medseg_nca.config.bounds import MAX_LABELS, Name

# Far beyond what a fit makes, near enough that a file from elsewhere cannot fill the memory.
MAX_FEATURES, MAX_TREES, MAX_NODES, MAX_PAIRS = 200, 1000, 10_000, 20_000

Number = Annotated[float, Field(allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
Numbers = Annotated[tuple[Number, ...], Field(max_length=MAX_FEATURES)]
FeatureIndex = Annotated[int, Field(ge=-1, lt=MAX_FEATURES)]


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
    max_share: minutes that the fit may take, as a share of the minutes that the training took;
    images are left out beyond it.
    """

    fit: bool = True
    cases: int = Field(40, ge=1)
    corruptions: tuple[str, ...] | None = None
    confidence: float = Field(0.9, gt=0.5, lt=1)
    max_share: float = Field(0.25, gt=0)


class Tree(Settings):
    """A regression tree: nodes in an order in which a node stands before its children.

    feature: index of the feature that a node looks at, -1 for a leaf. threshold: values up to it go
    to ``left``, others to ``right``. value: of a leaf; of another node it is not used.
    """

    feature: tuple[FeatureIndex, ...] = Field(min_length=1, max_length=MAX_NODES)
    threshold: tuple[Number, ...]
    left: tuple[int, ...]
    right: tuple[int, ...]
    value: tuple[Number, ...]

    @model_validator(mode="after")
    def _sound(self) -> Self:
        count = len(self.feature)
        if any(len(p) != count for p in (self.threshold, self.left, self.right, self.value)):
            raise ValueError("a tree has as many entries in each of its lists")
        for node, feature in enumerate(self.feature):
            children = (self.left[node], self.right[node])
            if feature >= 0 and not all(node < child < count for child in children):
                raise ValueError(f"node {node} of a tree has children {children}")
        return self


class LabelScale(Settings):
    """Mean and spread of each feature over answers to clean images, for one label."""

    label: Name
    mean: Numbers
    sd: Numbers


class CalibrationPairs(Settings):
    """Predicted and true Dice of cases that the predicting trees had not seen.

    half: half the width of the interval of each, before it is scaled to the confidence.
    clean: whether the image was without an artificial fault. case: number of the case.
    """

    predicted: tuple[Share, ...] = Field(max_length=MAX_PAIRS)
    true: tuple[Share, ...]
    clean: tuple[bool, ...]

    @model_validator(mode="after")
    def _paired(self) -> Self:
        if not len(self.predicted) == len(self.true) == len(self.clean):
            raise ValueError("predicted, true and clean must have as many entries")
        return self


class TrustSection(Settings):
    """How a model estimates the Dice of its own answers (``trust`` in ``model.json``).

    features: names of the features in the order of the trees' indices. scales: one for each label.
    trees: their mean is the predicted Dice. pairs: what interval and gate are computed from.
    confidence: of the interval. cases: validation cases that it was fitted on. corruptions: names
    of the faults that it was fitted on. novelty: the largest distance from clean images that a
    clean image of the fit had; images beyond it are never accepted.
    """

    version: int = 1
    features: tuple[Name, ...] = Field(min_length=1, max_length=MAX_FEATURES)
    scales: tuple[LabelScale, ...] = Field(min_length=1, max_length=MAX_LABELS)
    trees: tuple[Tree, ...] = Field(min_length=1, max_length=MAX_TREES)
    pairs: CalibrationPairs
    confidence: float = Field(0.9, gt=0.5, lt=1)
    cases: int = Field(ge=1)
    corruptions: tuple[Name, ...] = ()
    novelty: float | None = Field(None, gt=0)
