"""Two folders, ``images`` and ``labels`` (or ``masks``), whose files are matched by name.

2D or 3D, and how many channels, is found by looking at a file. An optional ``dataset.yaml`` or
``labels.json`` beside the folders says what the numbers in the label maps mean, and more::

    name: nuclei
    labels: {nucleus: 255}
    licence: CC0-1.0
    patient: "^([^_]+)"     # the part of a file's name that names the patient
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from pydantic import Field

from medseg_nca.config import Settings
from medseg_nca.config.loading import validate
from medseg_nca.config.presets import read_yaml
from medseg_nca.datasets.base import Case, DataSet
from medseg_nca.datasets.layout import (
    label_table,
    look,
    modality_of,
    names_for,
    patient_of,
    patient_pattern,
    read_json_object,
    safe_id,
    sorted_cases,
)
from medseg_nca.datasets.rules import no_images
from medseg_nca.errors import DataError
from medseg_nca.io.formats import find_images, stem

IMAGES = "images"
LABELS = ("labels", "masks")
NOTES = ("dataset.yaml", "labels.json")
# Endings that label files often have where the image has none, or one of its own.
ENDING = re.compile(r"[_-](image|img|labels?|masks?|seg|segmentation|gt)$", re.IGNORECASE)


class Notes(Settings):
    """What ``dataset.yaml`` may say."""

    name: str | None = None
    labels: dict[str | int, Any] = Field(default_factory=dict)
    channels: tuple[str, ...] | None = None
    modality: str | None = None
    licence: str | None = None
    description: str = ""
    patient: str | None = None


class Folders:
    """See :class:`medseg_nca.datasets.find.Adapter`."""

    layout = "images/ and labels/ (or masks/) with files of the same names"
    rank = 50

    def recognises(self, path: Path) -> bool:
        """A folder that has a folder called images."""
        return (path / IMAGES).is_dir()

    def open(self, path: Path) -> DataSet:
        """Match the files of the two folders."""
        images = _by_stem(path / IMAGES)
        if not images:
            raise no_images(path / IMAGES)
        notes, source = _notes(path)
        labels = _labels_of(path, images)
        pattern = patient_pattern(notes.patient, source)
        cases = sorted_cases(
            (
                Case(safe_id(name), (file,), labels.get(name), patient=patient_of(pattern, name))
                for name, file in images.items()
            ),
            path,
        )
        dims, count = look(cases)
        channels = notes.channels or names_for(count, dims)
        return DataSet(
            name=notes.name or path.resolve().name,
            root=path,
            format="folders",
            dims=dims,
            channels=channels,
            cases=cases,
            labels=label_table(notes.labels, source) if notes.labels else None,
            modality=notes.modality or modality_of(channels),
            licence=notes.licence,
            description=notes.description,
        )


ADAPTER = Folders()


def label_folder(path: Path) -> Path | None:
    """The folder of the label maps, None where there is none."""
    return next((path / name for name in LABELS if (path / name).is_dir()), None)


def _by_stem(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder.")
    found: dict[str, Path] = {}
    for file in find_images(folder):
        name = stem(file)
        if name in found:
            raise DataError(f"{folder}: {found[name].name} and {file.name} have the same name.")
        found[name] = file
    return found


def _labels_of(path: Path, images: dict[str, Path]) -> dict[str, Path]:
    """The label map of each image, by the image's name."""
    folder = label_folder(path)
    if folder is None:
        return {}
    labels = _by_stem(folder)
    plain = {ENDING.sub("", name): file for name, file in labels.items()}
    matched = {
        name: labels.get(name) or plain.get(name) or plain.get(ENDING.sub("", name))
        for name in images
    }
    found = {name: file for name, file in matched.items() if file is not None}
    if labels and not found:
        raise DataError(
            f"{folder}: no label map has the name of an image: images are called like "
            f"{next(iter(images.values())).name}, label maps like "
            f"{next(iter(labels.values())).name}.",
            hint="Give both the same name, or list the pairs in a datalist.csv.",
        )
    return found


def _notes(path: Path) -> tuple[Notes, Path]:
    for name in NOTES:
        file = path / name
        if file.is_file():
            tree = read_json_object(file) if file.suffix == ".json" else read_yaml(file)
            # labels.json may hold the table alone.
            if name == "labels.json" and "labels" not in tree:
                tree = {"labels": tree}
            return validate(Notes, tree, source=str(file)), file
    return Notes(), path
