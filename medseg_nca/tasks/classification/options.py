"""The section ``options`` of the settings of a classification."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from medseg_nca.config import Settings
from medseg_nca.config.bounds import MAX_AXIS, MAX_CELL_VOXELS, MAX_LABELS, Name, check_axes

# The most states of a roll-out that a loss may look at (Randazzo et al. 2020 look at all 20).
MAX_LOOKS = 64


class ClassificationOptions(Settings):
    """How images become inputs, how cells become an answer, and what is learned.

    data: a built-in data set for runs without ``--data``. class_names: names of the classes, in the
    order of their numbers or names in the data; none keeps the names of the data. size: size in
    pixels that every image is brought to; "auto" takes the median of the training images, at most
    64 (2D) or 32 (3D) per axis. fit: "stretch" brings each axis to that size, "pad" keeps the ratio
    of the axes and repeats the border. colour: "grey" makes one channel of a coloured image, "auto"
    does so if no image is coloured, "keep" never does. normalise: mean 0 and standard deviation 1
    by the statistics of the training images ("dataset") or of each image ("image").

    readout: "votes" lets every cell vote and averages their probabilities (Randazzo et al. 2020,
    "Self-classifying MNIST Digits"); "pooled" averages the hidden channels of the cells, and takes
    their maxima, for one small head; "attention" weighs the cells by what they hold (Ilse et al.
    2018). inside: only cells brighter than this share of the training's range of intensities live
    and vote, as in Randazzo et al.; None lets all cells vote. If no cell of an image is that
    bright, all its cells vote.

    loss: "cross_entropy", or "l2" between the logits and the one-hot class, as in Randazzo et al.
    agree: with "votes" and the cross-entropy, the share of the loss that asks every cell to be
    right by itself, as in Randazzo et al.; the rest asks it of the mean of the votes, which is
    learned sooner. looks: number of states of a roll-out that the loss looks at, evenly spread from
    the smallest number of steps to the drawn one. label_smoothing: share of the target that is
    spread over all classes. balance: "sampling" draws all classes equally often, "weights" weighs
    the loss of a rare class higher. shift: random shift of a training image as a share of its size.
    calibrate: find on the validation images the temperature that makes the probabilities true (Guo
    et al. 2017).
    """

    data: Literal["digits"] | None = None
    class_names: Annotated[tuple[Name, ...], Field(max_length=MAX_LABELS)] = ()
    size: Literal["auto"] | Annotated[tuple[int, ...], Field(min_length=2, max_length=3)] = "auto"
    fit: Literal["stretch", "pad"] = "stretch"
    colour: Literal["auto", "keep", "grey"] = "auto"
    normalise: Literal["dataset", "image", "none"] = "dataset"
    readout: Literal["votes", "pooled", "attention"] = "votes"
    inside: float | None = Field(None, ge=0, lt=1)
    loss: Literal["cross_entropy", "l2"] = "cross_entropy"
    agree: float = Field(0.5, ge=0, le=1)
    looks: int = Field(1, ge=1, le=MAX_LOOKS)
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    balance: Literal["none", "sampling", "weights"] = "none"
    shift: float = Field(0.0, ge=0, le=0.5)
    calibrate: bool = True

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not isinstance(self.size, str):
            check_axes("size", self.size, len(self.size), MAX_CELL_VOXELS, "an image")
            if max(self.size) > MAX_AXIS:
                raise ValueError(f"size is at most {MAX_AXIS} per axis, got {self.size}")
        if self.inside is not None and self.normalise == "image":
            raise ValueError("inside is a share of the data set's range: set normalise to dataset")
        if len(set(self.class_names)) != len(self.class_names):
            raise ValueError("class_names must differ from each other")
        return self
