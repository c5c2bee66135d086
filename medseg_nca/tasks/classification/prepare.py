"""Prepare an image: from the image as it was read to the array that the automaton sees."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator
from skimage.transform import resize

from medseg_nca.config import Settings
from medseg_nca.config.bounds import MAX_CELL_VOXELS, MAX_CHANNELS, MAX_LABELS, Name, check_axes
from medseg_nca.config.data import SplitSettings
from medseg_nca.datasets.splits import Split
from medseg_nca.errors import ImageError
from medseg_nca.tasks.classification.options import ClassificationOptions
from medseg_nca.transforms.intensity import to_grey

Array = NDArray[np.float32]
Numbers = Annotated[tuple[float, ...], Field(max_length=MAX_CHANNELS)]


class Facts(Settings):
    """What a model has to know of the data that it was trained on.

    Attributes:
        classes: names of the classes, in the order of the outputs.
        own_names: names that the data set gives to the classes, if the settings name them anew.
        channels: number of channels of a prepared image.
        size: size of a prepared image in pixels, for each axis.
        grey: whether coloured images become one channel.
        mean, sd: mean and standard deviation of each channel of the training images, which have
            the model's size and channels but are not normalised.
        low, high: ends of the range of intensities of each channel, for ``inside``.
        temperature: the logarithms of the answer's probabilities are divided by it.
        split: settings by which the data were divided; None if a file named the sides.
        listed: the sides that a file named; None if there was no file, or too many cases.
    """

    classes: Annotated[tuple[Name, ...], Field(min_length=2, max_length=MAX_LABELS)]
    own_names: Annotated[tuple[Name, ...], Field(max_length=MAX_LABELS)] = ()
    channels: int = Field(ge=1, le=MAX_CHANNELS)
    size: Annotated[tuple[int, ...], Field(min_length=2, max_length=3)]
    grey: bool = False
    mean: Numbers
    sd: Numbers
    low: Numbers
    high: Numbers
    temperature: float = Field(1.0, ge=0.02, le=50, allow_inf_nan=False)
    split: SplitSettings | None = None
    listed: Split | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        check_axes("size", self.size, len(self.size), MAX_CELL_VOXELS, "an image")
        if self.own_names and len(self.own_names) != len(self.classes):
            raise ValueError(f"own_names has {len(self.own_names)} names, classes has "
                             f"{len(self.classes)}")  # fmt: skip
        for name in ("mean", "sd", "low", "high"):
            if len(getattr(self, name)) != self.channels:
                raise ValueError(f"{name} has {len(getattr(self, name))} values for "
                                 f"{self.channels} channels")  # fmt: skip
        if min(self.sd) <= 0:
            raise ValueError("sd must be above 0")
        return self

    @property
    def dims(self) -> Literal[2, 3]:
        """The number of axes of an image."""
        return 2 if len(self.size) == 2 else 3

    def threshold(self, options: ClassificationOptions) -> tuple[float, ...] | None:
        """Return ``inside`` in the units of prepared images, for each channel; None if not set."""
        if options.inside is None:
            return None
        ends = zip(self.low, self.high, self.mean, self.sd, strict=True)
        values = [(low + options.inside * (high - low), mean, sd) for low, high, mean, sd in ends]
        if options.normalise == "dataset":
            return tuple((value - mean) / sd for value, mean, sd in values)
        return tuple(value for value, _, _ in values)


def prepare(image: NDArray[Any], facts: Facts, options: ClassificationOptions, name: str) -> Array:
    """Bring an image to the model's channels, size and intensities.

    Args:
        image: the image ``(C, *S)`` of real numbers.
        facts: facts of the model.
        options: options of the model.
        name: what messages call the image.

    Returns:
        The prepared image ``(channels, *size)``, float32.

    Raises:
        ImageError: if the image has another number of axes, or other channels than the model.
    """
    shaped = bring(image, facts.channels, facts.size, options, name, grey=facts.grey)
    return normalise(shaped, facts, options)


def bring(
    image: NDArray[Any],
    channels: int,
    size: tuple[int, ...],
    options: ClassificationOptions,
    name: str,
    *,
    grey: bool,
) -> Array:
    """Bring an image ``(C, *S)`` to a number of channels and a size, as :func:`prepare` does."""
    if image.ndim - 1 != len(size):
        raise ImageError(
            f"{name}: has {image.ndim - 1} axes, {tuple(image.shape[1:])}; the model is for images "
            f"of {len(size)} axes."
        )
    if grey and image.shape[0] == 3:
        image = to_grey(image)
    if channels == 3 and image.shape[0] == 1:
        image = np.repeat(image, 3, axis=0)
    if image.shape[0] != channels:
        raise ImageError(f"{name}: has {image.shape[0]} channels; {channels} are needed.")
    values = np.asarray(image, np.float32)
    if values.shape[1:] == size:
        return np.ascontiguousarray(values)
    return _resized(values, size, options.fit)


def _resized(image: Array, size: tuple[int, ...], fit: str) -> Array:
    inner = size
    if fit == "pad":
        factor = min(s / n for s, n in zip(size, image.shape[1:], strict=True))
        inner = tuple(
            max(min(round(n * factor), s), 1) for n, s in zip(image.shape[1:], size, strict=True)
        )
    shrink: Any = resize  # scikit-image has no types
    planes = [
        shrink(channel, inner, order=1, mode="edge", anti_aliasing=True, preserve_range=True)
        for channel in image
    ]
    missing = [s - n for s, n in zip(size, inner, strict=True)]
    around = [(0, 0), *((m // 2, m - m // 2) for m in missing)]
    return np.pad(np.stack(planes), around, mode="edge").astype(np.float32)


def normalise(image: Array, facts: Facts, options: ClassificationOptions) -> Array:
    """Bring the intensities of ``(channels, *size)`` to those that the model knows."""
    column = (-1, *(1,) * (image.ndim - 1))
    if options.normalise == "none":
        return image
    if options.normalise == "dataset":
        mean, sd = (np.array(v, np.float32).reshape(column) for v in (facts.mean, facts.sd))
    else:
        flat = image.reshape(len(image), -1).astype(np.float64)
        spread = flat.std(1)
        mean = flat.mean(1).astype(np.float32).reshape(column)
        sd = np.where(spread > 0, spread, 1).astype(np.float32).reshape(column)
    return np.asarray((image - mean) / sd, dtype=np.float32)
