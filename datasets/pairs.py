"""Pairs of an image and a target of real numbers: what ``task: regression`` learns from.

Two layouts. A folder with ``images/`` and ``targets/``, whose files are matched by name; beside
them an optional ``dataset.yaml``::

    name: sinus
    targets: [depth]        # one name for each channel of a target file
    unit: mm
    unknown: 0              # this number says that a target is not known; NaN always does
    patient: "^([^_]+)"     # the part of a file's name that names the patient

Or a JSON file (a folder's ``dataset.json``, or any other by its path) with the same keys and a list
``pairs``: ``{"image": PATH or [PATH, ...], "target": PATH, "id": ..., "patient": ..., "split":
"train", "val" or "test"}``, paths relative to the file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from medseg_nca.config import Settings
from medseg_nca.config.bounds import Name
from medseg_nca.config.loading import validate
from medseg_nca.config.presets import read_yaml
from medseg_nca.datasets.base import Side
from medseg_nca.datasets.hashing import dataset_hash
from medseg_nca.datasets.layout import (
    inside,
    patient_of,
    patient_pattern,
    read_json_object,
    safe_id,
    sorted_cases,
)
from medseg_nca.datasets.rules import no_images
from medseg_nca.errors import DataError
from medseg_nca.io.formats import find_images, in_short, stem

IMAGES, TARGETS = "images", "targets"
LIST, NOTES = "dataset.json", "dataset.yaml"
# Folders and keys by which a data set of label maps is known.
_LABELS = ("labels", "masks", "labelsTr")
LAYOUT = (
    "Give a folder with images/ and targets/ (files of the same names), or a JSON file with a list "
    "of pairs."
)
SEGMENTATION = "Label maps are for segmentation: leave task=regression out, or give real targets."


@dataclass(frozen=True)
class Pair:
    """One image and its target.

    Attributes:
        id: unique in the data set, usable as a file name.
        images: one file per image channel, or a single file that holds all channels.
        label: the file of the target, under the name by which cases are split and hashed.
        patient: pairs of one patient stay on one side of a split.
        split: a side that the data set itself prescribes.
    """

    id: str
    images: tuple[Path, ...]
    label: Path
    patient: str | None = None
    split: Side | None = None

    @property
    def target(self) -> Path:
        """The file of the target."""
        return self.label


class PairNotes(Settings):
    """What a data set of pairs may say of itself."""

    name: Name | None = None
    targets: tuple[Name, ...] | None = None
    unit: str = Field("", max_length=20)
    unknown: float | None = Field(None, allow_inf_nan=False)
    channels: tuple[Name, ...] | None = None
    modality: str = "unknown"
    licence: str | None = None
    description: str = ""
    patient: str | None = None


class _Entry(Settings):
    """One item of a list of pairs."""

    image: str | tuple[str, ...]
    target: str
    id: str | None = None
    patient: str | None = None
    split: Side | None = None


@dataclass(frozen=True)
class PairSet:
    """A data set of pairs, sorted by id, and what it says of itself."""

    name: str
    root: Path
    cases: tuple[Pair, ...]
    notes: PairNotes

    @property
    def hash(self) -> str:
        """SHA-256 over ids and files.

        Raises:
            DataError: if a file cannot be read.
        """
        return dataset_hash(self)


def open_pairs(path: Path) -> PairSet:
    """List the pairs of a folder or of a JSON file; no image is read.

    Raises:
        DataError: if there is no such data set, an image has no target or a target no image, two
            pairs have one id, or it is a data set of label maps.
    """
    path = Path(path)
    if path.is_file():
        return _listed(path)
    if not path.is_dir():
        raise DataError(f"{path}: there is no such file or folder.", hint=LAYOUT)
    if (path / TARGETS).is_dir():
        return _folders(path)
    if (path / LIST).is_file():
        return _listed(path / LIST)
    found = [name for name in _LABELS if (path / name).is_dir()]
    if found:
        raise DataError(
            f"{path}: holds label maps ({found[0]}/) and no folder {TARGETS}/.", hint=SEGMENTATION
        )
    raise DataError(f"{path}: there is no folder {TARGETS}/ and no {LIST} in it.", hint=LAYOUT)


def _folders(path: Path) -> PairSet:
    images, targets = (_by_stem(path / name) for name in (IMAGES, TARGETS))
    if not images:
        raise no_images(path / IMAGES)
    file = path / NOTES
    notes = validate(PairNotes, read_yaml(file) if file.is_file() else {}, source=str(file))
    _check_match(path, images, targets)
    pattern = patient_pattern(notes.patient, file)
    cases = [
        Pair(safe_id(name), (image,), targets[name], patient=patient_of(pattern, name))
        for name, image in images.items()
    ]
    return _made(cases, notes, path, path)


def _check_match(path: Path, images: Mapping[str, Path], targets: Mapping[str, Path]) -> None:
    lonely = sorted(set(images) - set(targets))
    if lonely:
        raise DataError(
            f"{path / TARGETS}: {len(lonely)} of {len(images)} images have no target: "
            f"{in_short(images[name].name for name in lonely)}.",
            hint="Give each target the name of its image, or move these images away.",
        )
    lonely = sorted(set(targets) - set(images))
    if lonely:
        raise DataError(
            f"{path / IMAGES}: {len(lonely)} of {len(targets)} targets have no image: "
            f"{in_short(targets[name].name for name in lonely)}.",
            hint="Give each image the name of its target, or move these targets away.",
        )


def _by_stem(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder.", hint=LAYOUT)
    found: dict[str, Path] = {}
    for file in find_images(folder):
        name = stem(file)
        if name in found:
            raise DataError(f"{folder}: {found[name].name} and {file.name} have the same name.")
        found[name] = file
    return found


def _listed(file: Path) -> PairSet:
    tree = read_json_object(file)
    entries = tree.pop("pairs", None)
    if not isinstance(entries, list) or not entries:
        hint = SEGMENTATION if {"labels", "training"} & set(tree) else LAYOUT
        raise DataError(f"{file}: has no list 'pairs' of images and targets.", hint=hint)
    notes = validate(PairNotes, tree, source=str(file))
    pattern = patient_pattern(notes.patient, file)
    cases = [_pair(item, number, file, pattern) for number, item in enumerate(entries)]
    return _made(cases, notes, file.parent, file)


def _pair(item: Any, number: int, file: Path, pattern: re.Pattern[str] | None) -> Pair:
    entry = validate(_Entry, item, source=f"{file}: pairs.{number}")
    names = (entry.image,) if isinstance(entry.image, str) else entry.image
    if not names:
        raise DataError(f"{file}: pairs.{number} names no image.")
    images = tuple(inside(file.parent, name, file) for name in names)
    target = inside(file.parent, entry.target, file)
    for path in (*images, target):
        if not path.is_file():
            raise DataError(f"{file}: pairs.{number} names {path}, and there is no such file.")
    name = safe_id(entry.id or stem(images[0]))
    patient = entry.patient or patient_of(pattern, name)
    return Pair(name, images, target, patient=patient, split=entry.split)


def _made(cases: Iterable[Pair], notes: PairNotes, root: Path, source: Path) -> PairSet:
    found = sorted_cases(cases, source)
    return PairSet(notes.name or root.resolve().name, root, found, notes)
