"""Sides of a data set of classes: each class is divided for itself, by patient."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from medseg_nca.config.data import SplitSettings
from medseg_nca.datasets.base import Side
from medseg_nca.datasets.classes.base import ClassData, ClassImage
from medseg_nca.datasets.find_classes import class_counts
from medseg_nca.datasets.splits import SIDES, Split, listed_cases, make_split
from medseg_nca.errors import DataError, ImageError


@dataclass(frozen=True)
class _Case:
    """An image as :func:`make_split` knows cases; that it has a truth is all that counts."""

    id: str
    patient: str | None
    split: Side | None
    label: Path | None = Path()


@dataclass(frozen=True)
class _Stratum:
    """The patients of one class."""

    cases: tuple[_Case, ...]


def split_classes(data: ClassData, settings: SplitSettings) -> Split:
    """Divide a data set so that every class has its share on every side.

    A patient whose images are of several classes counts for the one that most of them are of.
    Sides that the data set prescribes are kept, and a file in the settings decides everything; see
    :func:`medseg_nca.datasets.splits.make_split`, which draws.

    Raises:
        DataError: if a class has too few patients for the sides or folds that are asked for, or
            no image to train on.
        ConfigError: see :func:`make_split`.
    """
    if settings.file is not None:
        split = make_split(_Stratum(_cases(data.images)), settings, data.hash)
    else:
        split = _drawn(data, settings)
    check_sides(data, split)
    return split


def only_listed(data: ClassData, settings: SplitSettings) -> ClassData:
    """Return the data set without the images that a run may not read, if there are such.

    Its hash is then that of the ids, classes and pixels of the others.

    Raises:
        DataError, ConfigError: if the list cannot be read.
    """
    listed = listed_cases(settings)
    if listed is None:
        return data
    images = tuple(image for image in data.images if image.id in listed)
    return replace(data, images=images, digest=partial(_content, images))


def _content(images: Sequence[ClassImage]) -> str:
    digest = hashlib.sha256()
    for image in sorted(images, key=lambda image: image.id):
        try:
            array = np.ascontiguousarray(image.read())
        except ImageError:  # the training leaves it out
            continue
        digest.update(f"{image.id} {image.truth} {array.dtype} {array.shape}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def check_sides(data: ClassData, split: Split) -> None:
    """Refuse a training part that lacks a class.

    Raises:
        DataError: naming the class.
    """
    counts = side_counts(data, split)
    missing = [name for name in data.classes if not counts["train"][name]]
    if missing:
        raise DataError(
            f"The class {missing[0]!r} has no image in the training part of the split.",
            hint="Add images of it to the training part, or leave its folder out.",
        )


def missing_notes(data: ClassData, split: Split) -> tuple[str, ...]:
    """Sentences on classes that a validation or a test does not see."""
    counts = side_counts(data, split)
    notes = []
    for side in ("val", "test"):
        missing = [name for name in data.classes if not counts[side][name]]
        if missing and split.side(side):
            notes.append(f"No image of {', '.join(missing)} is in the {side} part of the split.")
    return tuple(notes)


def side_counts(data: ClassData, split: Split) -> dict[str, Counter[str]]:
    """Images of each class on each side."""
    known = {image.id: image for image in data.images}
    return {
        side: class_counts([known[name] for name in split.side(side) if name in known])
        for side in SIDES
    }


def _cases(images: Sequence[ClassImage]) -> tuple[_Case, ...]:
    return tuple(_Case(image.id, image.patient, image.split) for image in images)


def _drawn(data: ClassData, settings: SplitSettings) -> Split:
    sides: dict[str, list[str]] = {side: [] for side in SIDES}
    prescribed = {image.split for image in data.images}
    for name, images in _strata(data).items():
        free = {image.patient or image.id for image in images if image.split is None}
        wanted = _sides_to_draw(settings, prescribed)
        if free and len(free) < wanted:
            who = "patients" if any(image.patient for image in images) else "images"
            raise DataError(
                f"The class {name!r} has {len(free)} {who}, too few for "
                + (f"{settings.folds} folds and a test." if settings.folds else f"{wanted} sides."),
                hint="Add images of it, leave its folder out, or set data.split.val or "
                "data.split.test to 0.",
            )
        if not free and not any(image.split == "train" for image in images):
            sides[str(images[0].split)] += [image.id for image in images]
            continue  # check_sides says what is missing
        part = make_split(_Stratum(_cases(images)), settings, data.hash)
        for side in SIDES:
            sides[side] += part.side(side)
    fold = None if settings.folds is None else settings.fold or 0
    drawn = {side: tuple(sorted(names)) for side, names in sides.items()}
    return Split(
        **drawn, seed=settings.seed, fold=fold, folds=settings.folds, dataset_hash=data.hash
    )


def _sides_to_draw(settings: SplitSettings, prescribed: set[Side | None]) -> int:
    """How many patients of a class are needed so that no side that is drawn lacks it."""
    test = settings.test > 0 and "test" not in prescribed
    if settings.folds is not None:
        return settings.folds + test
    return 1 + test + (settings.val > 0 and "val" not in prescribed)


def _strata(data: ClassData) -> dict[str, list[ClassImage]]:
    """The images by the class that their patient counts for; classes in their order."""
    owned: dict[str, list[ClassImage]] = defaultdict(list)
    for image in data.images:
        owned[f"p {image.patient}" if image.patient is not None else f"i {image.id}"].append(image)
    order = {name: place for place, name in enumerate(data.classes)}
    strata: dict[str, list[ClassImage]] = {name: [] for name in data.classes}
    for images in owned.values():
        counts = class_counts(images)
        strata[max(counts, key=lambda name: (counts[name], -order[name]))] += images
    return {name: images for name, images in strata.items() if images}
