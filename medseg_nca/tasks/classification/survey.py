"""Find out about the images before the training: sizes, colours, statistics."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg_nca.config import RunSettings
from medseg_nca.datasets.classes.base import ClassData, ClassImage
from medseg_nca.errors import DataError, ImageError, MemoryBudgetError
from medseg_nca.io.checks import check_values
from medseg_nca.job import Job
from medseg_nca.tasks.classification.options import ClassificationOptions
from medseg_nca.tasks.classification.prepare import Array, Facts, bring, normalise

logger = logging.getLogger(__name__)

# The most pixels per axis that "auto" takes, because the time of a step grows with all pixels.
MOST_AUTO = {2: 64, 3: 32}
# The most bytes of images that stay in memory between the first and the second reading.
_KEPT_BYTES = 10**9
# The most values from which statistics are computed.
_MOST_VALUES = 4_000_000
_ENDS = (0.5, 99.5)


@dataclass(frozen=True)
class DataPart:
    """The images of one side, prepared.

    Attributes:
        ids: names of the images.
        images: the images ``(n, channels, *size)``, float32.
        truth: number of the class of each image.
    """

    ids: tuple[str, ...]
    images: Array
    truth: NDArray[np.int64]


@dataclass
class _Reader:
    """Reads images, keeps those that fit into memory, and remembers those that cannot be read."""

    kept: dict[str, NDArray[Any]] = field(default_factory=dict)
    faults: dict[str, str] = field(default_factory=dict)
    room: int = _KEPT_BYTES

    def read(self, image: ClassImage) -> NDArray[Any] | None:
        if image.id in self.kept:
            return self.kept.pop(image.id)
        if image.id in self.faults:
            return None
        try:
            return read_checked(image)
        except ImageError as error:
            self.faults[image.id] = error.message
            logger.warning("%s Training goes on without it.", error.message)
            return None

    def keep(self, image: ClassImage, array: NDArray[Any]) -> None:
        if self.room >= array.nbytes:
            self.room -= array.nbytes
            self.kept[image.id] = array


def read_checked(image: ClassImage) -> NDArray[Any]:
    """Read an image, and check that its values are real numbers.

    Raises:
        ImageError: if the image cannot be read or used.
    """
    array = image.read()
    check_values(Path(image.id), array)
    return array


def survey(
    data: ClassData,
    train: Sequence[ClassImage],
    val: Sequence[ClassImage],
    settings: RunSettings,
    options: ClassificationOptions,
    job: Job,
) -> tuple[Facts, DataPart, DataPart]:
    """Read the images of a training, decide how they are prepared, and prepare them.

    Images that cannot be read are left out, with a warning.

    Raises:
        DataError: if the images have different numbers of axes or channels, or a class has no
            image left to train on.
        MemoryBudgetError: if the prepared images need more than ``preprocess.memory_budget_gb``.
        Interrupted: if the job was cancelled.
    """
    reader, shapes, coloured, channels = _Reader(), [], False, set()
    for done, image in enumerate(train):
        job.report("reading", done, len(train) + len(val), unit="images")
        array = reader.read(image)
        if array is None:
            continue
        shapes.append(array.shape[1:])
        channels.add(array.shape[0])
        coloured = coloured or (array.shape[0] == 3 and not (array == array[:1]).all())
        _check_axes(image, array, shapes[0])
        reader.keep(image, array)
    if not shapes:
        raise DataError("No image of the training part can be read; the warnings above say why.")
    size = _size(shapes, options)
    grey = options.colour == "grey" or (options.colour == "auto" and not coloured)
    count = _channels(channels, grey)
    _check_memory(len(train) + len(val), count, size, settings)
    raw, ids, truth = _read_part(data, train, (count, size, grey), options, reader)
    mean, sd, low, high = _statistics(raw)
    facts = Facts(
        classes=data.classes, own_names=data.own_names, channels=count, size=size, grey=grey,
        mean=mean, sd=sd, low=low, high=high,
    )  # fmt: skip
    missing = [name for number, name in enumerate(data.classes) if number not in set(truth)]
    if missing:
        raise DataError(f"No training image of the class {missing[0]!r} can be read.")
    training = DataPart(ids, _normalised(raw, facts, options), truth)
    job.report("reading", len(train), len(train) + len(val), unit="images")
    seen, ids, truth = _read_part(data, val, (count, size, grey), options, reader)
    job.report("reading", len(train) + len(val), len(train) + len(val), unit="images")
    return facts, training, DataPart(ids, _normalised(seen, facts, options), truth)


def _check_axes(image: ClassImage, array: NDArray[Any], first: tuple[int, ...]) -> None:
    if array.ndim - 1 not in (2, 3) or array.ndim - 1 != len(first):
        raise DataError(
            f"{image.id}: has {array.ndim - 1} axes, other images have {len(first)}.",
            hint="One data set holds pictures or volumes, not both.",
        )


def _size(shapes: Sequence[tuple[int, ...]], options: ClassificationOptions) -> tuple[int, ...]:
    dims = len(shapes[0])
    size = options.size
    if isinstance(size, str):
        median = np.median(np.array(shapes), axis=0)
        size = tuple(int(min(max(round(n), 1), MOST_AUTO[dims])) for n in median)
    if len(size) != dims:
        raise DataError(
            f"options.size has {len(size)} numbers, and the images have {dims} axes: {shapes[0]}."
        )
    others = {shape for shape in shapes if shape != size}
    if others:
        shown = ", ".join(" x ".join(map(str, shape)) for shape in sorted(others)[:3])
        logger.info(
            "Images are brought to %s pixels (%s): there are others, such as %s.",
            " x ".join(map(str, size)), options.fit, shown,
        )  # fmt: skip
    return size


def _channels(found: set[int], grey: bool) -> int:
    wanted = {1 if grey and count == 3 else count for count in found}
    if wanted == {1, 3}:
        logger.info("Some images are grey and others coloured: all are taken as coloured.")
        return 3
    if len(wanted) > 1:
        raise DataError(
            f"The images have different numbers of channels: {', '.join(map(str, sorted(found)))}.",
            hint="Save all with the same channels.",
        )
    return wanted.pop()


def _check_memory(images: int, channels: int, size: tuple[int, ...], settings: RunSettings) -> None:
    needed, budget = images * channels * prod(size) * 4 / 1e9, settings.preprocess.memory_budget_gb
    if needed > budget:
        raise MemoryBudgetError(
            f"{images} images of {' x '.join(map(str, size))} pixels take {needed:.1f} GB; the "
            f"budget is {budget:g} GB.",
            hint="Set a smaller options.size, or a larger preprocess.memory_budget_gb.",
        )


def _read_part(
    data: ClassData,
    images: Sequence[ClassImage],
    form: tuple[int, tuple[int, ...], bool],
    options: ClassificationOptions,
    reader: _Reader,
) -> tuple[Array, tuple[str, ...], NDArray[np.int64]]:
    """Return the images that can be read, brought to one size but not normalised."""
    channels, size, grey = form
    result = np.empty((len(images), channels, *size), np.float32)
    ids: list[str] = []
    truth: list[int] = []
    number = {name: place for place, name in enumerate(data.classes)}
    for image in images:
        array = reader.read(image)
        if array is None:
            continue
        result[len(ids)] = bring(array, channels, size, options, image.id, grey=grey)
        ids.append(image.id)
        truth.append(number[str(image.truth)])
    return result[: len(ids)], tuple(ids), np.array(truth, np.int64)


def _normalised(images: Array, facts: Facts, options: ClassificationOptions) -> Array:
    for place, image in enumerate(images):
        images[place] = normalise(image, facts, options)
    return images


def _statistics(images: Array) -> tuple[tuple[float, ...], ...]:
    """Return mean, standard deviation and ends of the range of each channel of ``(n, C, *S)``."""
    flat = images.swapaxes(0, 1).reshape(images.shape[1], -1)
    some = flat[:, :: max(flat.shape[1] // _MOST_VALUES, 1)].astype(np.float64)
    sd = some.std(1)
    low, high = np.percentile(some, _ENDS, axis=1)
    # Six digits after the point are enough, except for maps of small numbers (ADC in mm²/s).
    sd = [1.0 if v == 0 else round(v, 6) if v >= 1 else v for v in sd.tolist()]
    return tuple(some.mean(1).tolist()), tuple(sd), tuple(low.tolist()), tuple(high.tolist())
