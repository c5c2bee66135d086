"""A ``.npz`` file of images and labels, as MedMNIST publishes them (Yang et al. 2023).

Keys: ``train_images`` and ``train_labels``, and the same with ``val`` and ``test``; or ``images``
and ``labels`` without a prescribed split. Images ``(N, rows, columns)``, with a last axis of 3 in
colour, or ``(N, a, b, c)`` for volumes, which may have a last axis of 1 or 3 too.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg_nca.datasets.base import Side
from medseg_nca.datasets.class_pictures import npz_pictures
from medseg_nca.datasets.classes.base import ClassData, ClassImage
from medseg_nca.datasets.hashing import file_hash
from medseg_nca.datasets.splits import SIDES
from medseg_nca.errors import DataError
from medseg_nca.io.npz import read_npz

_NAMES = {
    f"{side}{part}" for side in ("train_", "val_", "test_", "") for part in ("images", "labels")
}


class NpzLayout:
    """The layout with one file that holds the arrays of all images."""

    layout = "a .npz file with train_images, train_labels, val_..., test_... (MedMNIST)"
    rank = 10.0

    def recognises(self, path: Path) -> bool:
        """Implement :class:`ClassLayout`."""
        return path.suffix.lower() == ".npz"

    def open(self, path: Path) -> ClassData:
        """Implement :class:`ClassLayout`."""
        arrays = read_npz(path, _NAMES.__contains__)
        parts: list[tuple[Side | None, str]] = [(side, f"{side}_") for side in SIDES]
        parts = [part for part in parts if f"{part[1]}images" in arrays]
        if not parts and "images" in arrays:
            parts = [(None, "")]
        if not parts:
            raise DataError(
                f"{path}: holds neither train_images nor images.",
                hint="A MedMNIST file has train_images, train_labels, val_..., test_...",
            )
        found: list[ClassImage] = []
        values: set[int] = set()
        for side, prefix in parts:
            pictures = npz_pictures(path, f"{prefix}images", arrays[f"{prefix}images"])
            labels = _labels(path, f"{prefix}labels", arrays, len(pictures))
            values.update(labels)
            found += [
                ClassImage(f"{prefix or 'image_'}{place:05d}", read, str(label), None, side)
                for place, (read, label) in enumerate(zip(pictures, labels, strict=True))
            ]
        classes = tuple(str(value) for value in sorted(values))
        return ClassData(
            path.stem, "npz", classes, tuple(found), partial(file_hash, path), named=False
        )


def _labels(path: Path, name: str, arrays: dict[str, NDArray[Any]], images: int) -> list[int]:
    if name not in arrays:
        raise DataError(f"{path}: there are images, but no {name}.")
    labels = arrays[name]
    if labels.size == 0:
        if images:
            raise DataError(f"{path}: there are {images} images, and {name} is empty.")
        return []  # an empty side; whoever opens the data set says if all of them are
    flat = labels.reshape(len(labels), -1) if labels.ndim else labels.reshape(1, 1)
    if flat.shape[1] != 1:
        raise DataError(
            f"{path}: {name} has the shape {labels.shape}, several labels for an image.",
            hint="An image belongs to one class here: name the class by one number.",
        )
    if len(flat) != images:
        raise DataError(f"{path}: there are {images} images and {len(flat)} {name}.")
    if flat.dtype.kind == "f" and not np.isfinite(flat).all():
        raise DataError(f"{path}: {name} are not finite: one is NaN or infinite.")
    if flat.dtype.kind == "f" and not np.array_equal(flat, np.rint(flat)):
        raise DataError(f"{path}: {name} are fractions; classes are whole numbers.")
    return [int(value) for value in flat[:, 0]]


LAYOUT = NpzLayout()
