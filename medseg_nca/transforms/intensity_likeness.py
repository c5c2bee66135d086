"""The intensities of an image against those of the training.

What an image's numbers are matters only to a model that takes them as they are (``normalise`` is
"ct" or "none"). All other models see each image on its own scale: for them it is compared how the
intensities are distributed, which no factor and no offset changes. For all, whether there is
anything but noise, and more than a few different intensities. The limits are generous, because a
warning that comes often is not read; docs/trust.md has the measured figures.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from numpy.typing import NDArray

from medseg_nca.config import PreprocessPlan
from medseg_nca.config.bounds import MAX_INTENSITY
from medseg_nca.config.plan import TrainingIntensities
from medseg_nca.transforms.intensity_measures import ImageIntensities, measure_intensities

# By how many ranges of the training an image may reach beyond it, by how many its ends and its
# median may lie further inside than those of any image there, and the least share that it fills.
BEYOND, INSIDE, LEAST = 1.0, 0.25, 0.05
# How far the median, or the border, may lie beyond the training's on the image's own range.
PLACE = 0.15
# How much more, or less, of an image may have exactly its lowest intensity.
FLOOR = 0.3
# The share of an image that has one intensity when nothing else of it counts.
FLAT = 0.95
# An image has too few intensities where every one of the training has this many times as many.
GRADES = 8

_RANGES = ("low", "median", "high", "place", "border", "floor", "rough")
Ends = tuple[float, float]


def training_intensities(
    images: Iterable[Sequence[ImageIntensities]], *, grey: bool = False
) -> tuple[TrainingIntensities, ...] | None:
    """What the intensities of the training images are like, for the plan of a model.

    Args:
        images: what :func:`.intensity_measures.measure_intensities` says of each image.
        grey: whether the model sees one channel of a coloured picture (``colour`` of the plan).

    Returns:
        An entry for each channel that the model sees; None if an image was not measured.
    """
    rows = [channels[_seen(len(channels))] if grey else channels for channels in images]
    if not rows or not all(rows):
        return None
    return tuple(_joined([_alone(one) for one in column]) for column in zip(*rows, strict=False))


def with_intensities(plan: PreprocessPlan, images: Iterable[NDArray[Any]]) -> PreprocessPlan:
    """Return a plan that tells of the intensities of the training images.

    For models of older versions, whose plans do not; a data set that is prepared has it.

    Args:
        plan: of the model, with ``training``.
        images: the images of the training part, each ``(C, *S)`` as it was read.

    Raises:
        ConfigError: if the images have other channels than the plan.
        ValueError: if the plan has no ``training``.
    """
    if plan.training is None:
        raise ValueError("with_intensities: the plan says nothing of its training images")
    nonzero, grey = plan.crop == "nonzero", plan.colour == "grey"
    measured = [measure_intensities(image, nonzero=nonzero) for image in images]
    known = training_intensities(measured, grey=grey)
    return plan.changed(training=plan.training.changed(intensities=known))


def join_intensities(
    parts: Sequence[tuple[TrainingIntensities, ...] | None],
) -> tuple[TrainingIntensities, ...] | None:
    """What the members of an ensemble learned from, taken together; None if one does not say it."""
    known = [part for part in parts if part is not None]
    if len(known) < len(parts):
        return None
    return tuple(_joined(column) for column in zip(*known, strict=True))


def compare_intensities(image: NDArray[Any], plan: PreprocessPlan) -> tuple[str, ...]:
    """Tell in what the intensities of an image are unlike those of the training.

    At most 12,000 voxels of each channel are looked at.

    Args:
        image: ``(C, *S)``, as it was read.
        plan: of the model; without ``training.intensities`` nothing is found.
    """
    known = None if plan.training is None else plan.training.intensities
    if known is None:
        return ()
    if plan.colour == "grey":
        image = image[_seen(len(image))]
    if len(image) != len(known):
        return ()  # the preparation refuses it, with a better message
    found = measure_intensities(image, nonzero=plan.crop == "nonzero")
    names = [""] if len(known) == 1 else [f"channel {name}: " for name in plan.channels]
    return tuple(
        f"{name}{text}"
        for name, one, training in zip(names, found, known, strict=True)
        for text in _unlike(one, training, plan)
    )


def range_unlike(ends: Ends, low: Ends, high: Ends) -> str | None:
    """Tell that an image's range of intensities is unlike those of the training; None if it is not.

    Args:
        ends: the 1st and the 99th percentile of the image.
        low: the least and the largest 1st percentile of the training images.
        high: the same of their 99th percentile.
    """
    span = high[1] - low[0]
    if span <= 0:
        return None
    least, most = ends
    usual = f"those of the training from {low[0]:.5g} to {high[1]:.5g}"
    first = low[0] - BEYOND * span <= least <= low[1] + INSIDE * span
    last = high[0] - INSIDE * span <= most <= high[1] + BEYOND * span
    if most - least < LEAST * span:
        return f"its intensities run only from {least:.5g} to {most:.5g}, {usual}"
    if not (first and last):
        return f"its intensities run from {least:.5g} to {most:.5g}, {usual}"
    return None


def _unlike(
    found: ImageIntensities, known: TrainingIntensities, plan: PreprocessPlan
) -> Iterator[str]:
    """Yield what is unlike in one channel."""
    absolute = plan.normalise in {"ct", "none"}
    if absolute:
        text = range_unlike((found.low, found.high), known.low, known.high)
        text = text or _median_unlike(found, known)
        if text:
            unit = " HU" if plan.modality.strip().upper() == "CT" else ""
            yield f"{text}{unit} ({_guess(found, known)})"
            return
    if found.grades * GRADES <= known.grades:
        values = "one intensity" if found.grades == 1 else f"{found.grades} different intensities"
        yield (
            f"it has only {values}, every image of the training at least {known.grades} (is it a "
            "label map?)"
        )
        return
    if found.low >= found.high:
        if known.floor[1] < FLAT:
            yield "nearly all of it has one intensity (is there anything in the image?)"
        return
    if found.rough > (1 + min(known.rough[1], 1)) / 2:
        yield (
            f"its voxels differ from their neighbours {_percent(found.rough)} as much as from any "
            f"other voxel, those of the training at most {_percent(known.rough[1])} (is there "
            "anything but noise in the image?)"
        )
    if not absolute:  # what a scanner writes outside its circle, and metal, move only the ends
        yield from _places_unlike(found, known)


def _places_unlike(found: ImageIntensities, known: TrainingIntensities) -> Iterator[str]:
    """Yield what is unlike in how the intensities are distributed between their ends."""
    if _beyond(found.border, known.border, PLACE):
        yield (
            f"its border has {_percent(found.border)} of its range of intensities, the border of "
            f"images of the training {_span(known.border)} (is its contrast inverted, or its "
            "background another?)"
        )
    if _beyond(found.place, known.place, PLACE):
        yield (
            f"half of it is darker than {_percent(found.place)} of its range of intensities, half "
            f"of an image of the training is darker than {_span(known.place)} (is its contrast "
            "another?)"
        )
    if _beyond(found.floor, known.floor, FLOOR):
        yield (
            f"{_percent(found.floor)} of it has exactly its lowest intensity, {_span(known.floor)} "
            "of an image of the training (is its background removed, or theirs?)"
        )


def _median_unlike(found: ImageIntensities, known: TrainingIntensities) -> str | None:
    margin = INSIDE * (known.high[1] - known.low[0])
    if margin <= 0 or not _beyond(found.median, known.median, margin):
        return None
    low, high = known.median
    return (
        f"the median of its intensities is {found.median:.5g}, that of an image of the training "
        f"{low:.5g} to {high:.5g}"
    )


def _guess(found: ImageIntensities, known: TrainingIntensities) -> str:
    if known.whole and not found.whole:
        return "is the image rescaled? it has fractions, they have whole numbers"
    return "is the image rescaled or shifted?"


def _seen(channels: int) -> slice:
    """The channel that stands for the luminance, 72 % of which is green."""
    return slice(1, 2) if channels == 3 else slice(0, 1)


def _alone(found: ImageIntensities) -> TrainingIntensities:
    tree = found.model_dump()
    for name in _RANGES:
        tree[name] = (_number(tree[name]),) * 2
    return TrainingIntensities.model_validate(tree)


def _joined(parts: Sequence[TrainingIntensities]) -> TrainingIntensities:
    ranges = {
        name: (min(getattr(p, name)[0] for p in parts), max(getattr(p, name)[1] for p in parts))
        for name in _RANGES
    }
    grades, whole = min(p.grades for p in parts), all(p.whole for p in parts)
    return TrainingIntensities(**ranges, grades=grades, whole=whole)


def _number(value: float) -> float:
    """Five digits, within what a model file may hold."""
    return float(f"{min(max(value, -MAX_INTENSITY), MAX_INTENSITY):.5g}")


def _beyond(value: float, known: Ends, margin: float) -> bool:
    return not known[0] - margin <= value <= known[1] + margin


def _span(values: Ends) -> str:
    low, high = (_percent(value) for value in values)
    return low if low == high else f"{low} to {high}"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
