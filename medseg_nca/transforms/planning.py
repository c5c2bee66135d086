"""From the fingerprint of a data set and the settings to the plan: every "auto" decided."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np

from medseg_nca.config import PreprocessPlan
from medseg_nca.config.bounds import MAX_CROP_VOXELS
from medseg_nca.config.data import PreprocessSettings
from medseg_nca.config.loading import validate
from medseg_nca.config.plan import ChannelStatistics, TrainingIntensities
from medseg_nca.errors import ConfigError
from medseg_nca.transforms.fingerprint import CaseFingerprint, foreground_statistics
from medseg_nca.transforms.grid import AXIS_LABELS, axis_order, spaced_shape
from medseg_nca.transforms.intensity_likeness import training_intensities
from medseg_nca.transforms.likeness import training_images

# A level with fewer cells on an axis sees nothing that the next one does not.
MIN_CELLS = 6
# OctreeNCA, the deepest published automaton, has five. A larger image gets more, until a signal can
# cross the coarsest level within its steps, which are 10 to 16: it has fewer than 17 cells an axis.
MANY_LEVELS, MAX_LEVELS, CROSSED = 5, 8, 17
# Axes join the halving once the others are as coarse as they are to within this factor.
ANISOTROPY = 2.0

# The first share: a box around all voxels that are not 0 is worth cutting to if it holds at most
# this share of the image. The second share: images are cut only if at least this share of the cases
# has such a box, so that few are cut in vain.
BORDERED, MOST = 0.75, 0.8

# Settings that go into a plan as they are.
_AS_SET = {"orientation", "crop_margin", "percentiles", "clip"}

Number = TypeVar("Number", int, float)
Memory = Callable[[tuple[int, ...]], float]


@dataclass(frozen=True)
class Demands:
    """What the model asks of a training sample.

    Attributes:
        multiple: the sample's size must be a multiple of this, per axis.
        memory: bytes that a training step on a sample of a size takes.
    """

    multiple: tuple[int, ...]
    memory: Memory


def make_plan(
    cases: Mapping[str, CaseFingerprint],
    settings: PreprocessSettings,
    channels: tuple[str, ...],
    modality: str,
    demands: Callable[[PreprocessPlan], Demands],
    learning: Collection[str] | None = None,
) -> PreprocessPlan:
    """Decide how a data set is preprocessed.

    Args:
        cases: at least one, all of the same number of axes.
        settings: what "auto" leaves open is taken from the cases.
        channels: names of the image channels.
        modality: "CT" makes normalisation "auto" mean "ct".
        demands: asked with the plan as it is before the size of a sample is decided.
        learning: ids of the cases whose intensities the plan tells of; None means all.

    Raises:
        ConfigError: if a setting does not fit the number of axes, or is no orientation.
    """
    some = next(iter(cases.values()))
    dims = len(some.shape)
    _check(settings, dims)
    crop = bordered(cases) if settings.crop == "auto" else settings.crop
    settings = settings.changed(crop=crop)
    orders = [axis_order(case.codes, settings.orientation) for case in cases.values()]
    spacings = np.array(
        [_sorted(c.spacing, o) for c, o in zip(cases.values(), orders, strict=True)]
    )
    spacing = _spacing(settings, spacings)
    sizes = np.array([
        _size(case, order, spacing, settings)
        for case, order in zip(cases.values(), orders, strict=True)
    ])  # fmt: skip
    median = tuple(round(n) for n in np.median(sizes, axis=0))
    normalise, statistics = _normalisation(settings, cases, modality)
    voxel = spacing or tuple(float(v) for v in np.median(spacings, axis=0))
    size = _within(median) if settings.crop_size == "auto" else settings.crop_size
    colour = grey_in_colours(cases) if settings.colour == "auto" else settings.colour
    intensities = _intensities(cases, learning, inside=crop == "nonzero", grey=colour == "grey")
    decided = {
        "dims": dims,
        "channels": channels,
        "modality": modality,
        "spacing": spacing,
        "crop": crop,
        "colour": colour,
        "normalise": normalise,
        "statistics": statistics,
        "crop_size": size,
        "scales": pyramid(size, voxel),
        "training": training_images(cases, settings.orientation).changed(intensities=intensities),
        **settings.model_dump(include=_AS_SET),
    }
    draft = validate(PreprocessPlan, decided, source="The plan for the data set")
    if settings.crop_size != "auto":
        return draft
    fitted = sample_size(size, demands(draft), settings.memory_budget_gb * 1e9)
    return draft.changed(crop_size=fitted)


def bordered(cases: Mapping[str, CaseFingerprint]) -> Literal["none", "nonzero"]:
    """Whether a border of exact zeros is a large part of most images, and is to be cut off."""
    small = sum(case.box_share <= BORDERED for case in cases.values())
    return "nonzero" if small >= MOST * len(cases) else "none"


def grey_in_colours(cases: Mapping[str, CaseFingerprint]) -> Literal["keep", "grey"]:
    """Whether red, green and blue of every picture are the same, so that one of them tells all."""
    grey = all(
        len(case.shape) == 2 and len(case.channels) == 3 and len(set(case.channels)) == 1
        for case in cases.values()
    )
    return "grey" if grey else "keep"


def pyramid(size: Sequence[int], spacing: Sequence[float]) -> tuple[tuple[int, ...], ...]:
    """Return the scale per axis of each level, coarse to fine, for images of this size and spacing.

    Every level halves the axes along which cells are small (less than twice the smallest cell
    edge), so that the cells become cubes before they grow: a 1 x 1 x 4 mm image is halved in the
    plane until its cells are 4 mm wide. An axis is halved no more where it would get fewer than six
    cells, and the others then only until cells are twice as long along them. Axes that are that
    short from the start are left alone. There are more than five levels only where the coarsest of
    five has 17 cells or more along an axis that can be halved.
    """
    scales = [(1,) * len(size)]
    axes = [k for k, n in enumerate(size) if n >= 2 * MIN_CELLS]
    while len(scales) < MAX_LEVELS:
        scale = scales[-1]
        edges = {k: spacing[k] * scale[k] for k in axes}
        bound = min(edges.values(), default=0.0) * ANISOTROPY * (1 - 1e-6)
        small = [k for k in axes if edges[k] < bound]
        halved = [k for k in small if size[k] / (2 * scale[k]) >= MIN_CELLS]
        stopped = [edges[k] for k in small if k not in halved]
        limit = min(stopped, default=math.inf) * ANISOTROPY * (1 - 1e-6)
        halved = [k for k in halved if 2 * edges[k] < limit]
        crossed = all(size[k] < CROSSED * scale[k] for k in halved)
        if not halved or (crossed and len(scales) >= MANY_LEVELS):
            break
        scales.append(tuple(s * 2 if k in halved else s for k, s in enumerate(scale)))
    return tuple(reversed(scales))


def sample_size(size: Sequence[int], demands: Demands, budget: float) -> tuple[int, ...]:
    """Round a size up to what the model asks for, and cut it until it fits into ``budget`` bytes.

    The longest axis is cut first, by one multiple at a time.
    """
    multiple = demands.multiple
    fitted = [-(-n // m) * m for n, m in zip(size, multiple, strict=True)]
    while demands.memory(tuple(fitted)) > budget:
        free = [k for k, (n, m) in enumerate(zip(fitted, multiple, strict=True)) if n > m]
        if not free:
            break
        longest = max(free, key=lambda k: fitted[k])
        # An eighth at a time: a few tens of steps from any size to the smallest.
        cut = max(fitted[longest] // 8 // multiple[longest], 1) * multiple[longest]
        fitted[longest] -= cut
    return tuple(fitted)


def _within(size: tuple[int, ...]) -> tuple[int, ...]:
    """Halve the longest axis of a size until a sample may have it."""
    sides = list(size)
    while math.prod(sides) > MAX_CROP_VOXELS:
        longest = sides.index(max(sides))
        sides[longest] = -(-sides[longest] // 2)
    return tuple(sides)


def common_multiple(first: Sequence[int], second: Sequence[int]) -> tuple[int, ...]:
    """The smallest size per axis that both divide."""
    return tuple(math.lcm(a, b) for a, b in zip(first, second, strict=True))


def _check(settings: PreprocessSettings, dims: int) -> None:
    for name, value in (("spacing", settings.spacing), ("crop_size", settings.crop_size)):
        if isinstance(value, str):
            continue
        if len(value) != dims or min(value) <= 0:
            raise ConfigError(
                f"preprocess.{name}: {value} does not fit images of {dims} axes; "
                f"{dims} positive numbers are needed."
            )
    codes = settings.orientation
    if codes is None:
        return
    axes = [next((k for k, pair in enumerate(AXIS_LABELS) if c in pair), -1) for c in codes]
    if sorted(axes) != [0, 1, 2]:
        raise ConfigError(
            f"preprocess.orientation: {codes!r} is no orientation.",
            hint="Take one letter each of L/R, P/A and I/S, for example RAS, or null to leave it.",
        )


def _sorted(values: Sequence[Number], order: Sequence[int]) -> list[Number]:
    return [values[k] for k in order]


def _spacing(settings: PreprocessSettings, spacings: np.ndarray) -> tuple[float, ...] | None:
    if settings.spacing == "keep":
        return None
    if settings.spacing != "auto":
        return settings.spacing
    # Four digits are kept: further ones are rounding in headers, and must not change the plan.
    return tuple(float(f"{v:.4g}") for v in np.median(spacings, axis=0))


def _size(
    case: CaseFingerprint,
    order: Sequence[int],
    spacing: tuple[float, ...] | None,
    settings: PreprocessSettings,
) -> list[int]:
    """The shape that a case will have: turned, cropped, resampled."""
    shape = _sorted(case.shape, order)
    if settings.crop == "nonzero":
        box = _sorted(case.box, order)
        shape = [min(b + 2 * settings.crop_margin, n) for b, n in zip(box, shape, strict=True)]
    if spacing is None:
        return shape
    return list(spaced_shape(shape, _sorted(case.spacing, order), spacing))


def _intensities(
    cases: Mapping[str, CaseFingerprint],
    learning: Collection[str] | None,
    *,
    inside: bool,
    grey: bool,
) -> tuple[TrainingIntensities, ...] | None:
    """What is known of the intensities of the cases of the training, as the model sees them."""
    used = [case for name, case in cases.items() if learning is None or name in learning]
    images = [case.inside if inside else case.intensities for case in used or cases.values()]
    return training_intensities(images, grey=grey)


def _normalisation(
    settings: PreprocessSettings, cases: Mapping[str, CaseFingerprint], modality: str
) -> tuple[str, tuple[ChannelStatistics, ...] | None]:
    """What "auto" means here, and the statistics that "ct" needs."""
    ct = modality.strip().upper() == "CT"
    chosen = settings.normalise if settings.normalise != "auto" else ("ct" if ct else "zscore")
    if chosen != "ct":
        return chosen, None
    statistics = foreground_statistics(cases)
    if statistics is not None:
        return chosen, statistics
    if settings.normalise == "auto":
        return "zscore", None
    raise ConfigError(
        "preprocess.normalise: 'ct' needs the intensities inside the labels, and no case has any.",
        hint="Use zscore or percentile.",
    )
