"""A folder for each class: ``cat/*.png``, ``dog/*.png``.

Above them may lie folders of the sides (``train/cat``, ``val/cat``, ``test/cat``). A folder inside
that of a class is a patient (``cat/patient_7/a.png``), or one volume if it holds a DICOM series. A
table ``patients.csv`` with the columns ``image`` (relative path) and ``patient`` says the same of
files that lie side by side.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from medseg_nca.datasets.base import Side
from medseg_nca.datasets.class_pictures import is_image, is_series, read_picture, visible
from medseg_nca.datasets.classes.base import ClassData, ClassImage
from medseg_nca.datasets.hashing import file_hash
from medseg_nca.errors import DataError

SIDE_NAMES: dict[str, Side] = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
PATIENTS = "patients.csv"
# Names of folders, images and answers, by the task that learns from them.
_ANSWERS = {
    "regression": (("images", "targets"),),
    "segmentation": (
        ("images", "labels"), ("images", "masks"), ("imagestr", "labelstr"),
    ),
}  # fmt: skip


@dataclass(frozen=True)
class _Found:
    """An image that was found: a file, or the folder of a DICOM series."""

    path: Path
    truth: str
    patient: str | None
    side: Side | None


class FoldersLayout:
    """The layout with a folder for each class."""

    layout = "a folder for each class, with train, val and test above them or not"
    rank = 20.0

    def recognises(self, path: Path) -> bool:
        """Implement :class:`ClassLayout`."""
        return path.is_dir() and bool(_folders(path))

    def open(self, path: Path) -> ClassData:
        """Implement :class:`ClassLayout`."""
        _check_no_pairs(path)
        found = list(_search(path))
        patients = _patients(path)
        names = {item.path.relative_to(path).as_posix(): item for item in found}
        _check_patients(path, patients, names)
        images = tuple(
            ClassImage(
                name, partial(read_picture, item.path), item.truth,
                patients.get(name, item.patient), item.side,
            )
            for name, item in sorted(names.items())
        )  # fmt: skip
        classes = tuple(sorted({item.truth for item in found}))
        return ClassData(path.resolve().name, "folders", classes, images, partial(_hash, names))


def _check_no_pairs(root: Path) -> None:
    """Refuse folders of images beside folders of label maps or targets, which are no classes.

    Raises:
        DataError: if there are such folders; the message names the task that they are for.
    """
    names = {folder.name.lower() for folder in _folders(root)}
    for task, pairs in _ANSWERS.items():
        for images, answers in pairs:
            if names >= {images, answers}:
                raise DataError(
                    f"{root}: holds {images} and {answers} beside each other, which are no classes "
                    f"but images and their answers, of the task {task}.",
                    hint=f"Train the task {task} on it (`task: {task}` of a settings file), or "
                    "give the folders the names of classes.",
                )


def _folders(folder: Path) -> list[Path]:
    return [path for path in visible(folder) if path.is_dir()]


def _search(root: Path) -> Iterator[_Found]:
    """Return every image with its class; sides are read only if all folders are named as sides."""
    top = _folders(root)
    sides = {folder: SIDE_NAMES.get(folder.name.lower()) for folder in top}
    if top and all(sides.values()):
        _check_loose(root)
        for folder, side in sides.items():
            yield from _classes(folder, side)
        return
    mixed = [folder for folder, side in sides.items() if side is not None]
    if mixed:
        others = ", ".join(folder.name for folder in top if folder not in mixed)
        raise DataError(
            f"{root}: has folders of sides ({', '.join(f.name for f in mixed)}) and others "
            f"({others}) beside each other.",
            hint="Put a folder for each class into each of train, val and test, or leave the sides "
            "out.",
        )
    yield from _classes(root, None)


def _check_loose(folder: Path) -> None:
    loose = [path for path in visible(folder) if path.is_file() and is_image(path)]
    if loose:
        raise DataError(
            f"{loose[0]}: lies in no folder of a class"
            + (f", as {len(loose) - 1} more." if len(loose) > 1 else "."),
            hint="Move it into the folder of its class; the folder's name is that of the class.",
        )


def _classes(folder: Path, side: Side | None) -> Iterator[_Found]:
    _check_loose(folder)
    for inner in _folders(folder):
        yield from _images(inner, inner.name, None, side)


def _images(folder: Path, truth: str, patient: str | None, side: Side | None) -> Iterator[_Found]:
    for path in visible(folder):
        if is_series(path) if path.is_dir() else is_image(path):
            yield _Found(path, truth, patient, side)
        elif path.is_dir():
            yield from _images(path, truth, patient or path.name, side)


def _patients(root: Path) -> dict[str, str]:
    """Return the patient of each image that the table names."""
    path = root / PATIENTS
    if not path.is_file():
        return {}
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            rows = list(csv.DictReader(stream))
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read ({error}).") from error
    if not rows or not {"image", "patient"} <= rows[0].keys():
        raise DataError(f"{path}: needs the columns image and patient.")
    return {str(row["image"]).replace("\\", "/"): str(row["patient"]) for row in rows}


def _check_patients(root: Path, patients: Mapping[str, str], names: Mapping[str, _Found]) -> None:
    """Refuse a table that names images that do not exist, because patients could be divided."""
    strangers = [name for name in patients if name not in names]
    if strangers:
        raise DataError(
            f"{root / PATIENTS}: names {strangers[0]!r}, which is no image of the data set"
            + (f", and {len(strangers) - 1} more such." if len(strangers) > 1 else "."),
            hint="Write paths as they are below the folder of the data set: class/name.png.",
        )


def _hash(names: Mapping[str, _Found]) -> str:
    lines = [f"{name} {item.truth} {_content(item.path)}\n" for name, item in sorted(names.items())]
    return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def _content(path: Path) -> str:
    files = [path] if path.is_file() else [p for p in visible(path) if p.is_file()]
    return ",".join(file_hash(file) for file in files)


LAYOUT = FoldersLayout()
