"""A layout of classes: ``classes.txt`` with the path of an image and its class on each line."""

from __future__ import annotations

import hashlib
from functools import partial
from pathlib import Path

from medseg_nca.datasets.class_pictures import read_picture
from medseg_nca.datasets.classes.base import ClassData, ClassImage
from medseg_nca.datasets.hashing import file_hash
from medseg_nca.errors import DataError

FILE = "classes.txt"


class ClassList:
    """See :class:`medseg_nca.datasets.classes.base.ClassLayout`."""

    layout = f"{FILE} with the path of an image and its class on each line"
    rank = 5.0

    def recognises(self, path: Path) -> bool:
        """A folder that has the file."""
        return (path / FILE).is_file()

    def open(self, path: Path) -> ClassData:
        """Read the list; the paths are relative to the folder."""
        rows = [line.split() for line in (path / FILE).read_text("utf-8").splitlines()]
        if any(len(row) != 2 for row in rows):
            raise DataError(f"{path / FILE}: a line must name an image and its class.")
        images = tuple(
            ClassImage(Path(file).stem, partial(read_picture, path / file), name)
            for file, name in rows
        )
        files = [path / file for file, _ in rows]
        classes = tuple(sorted({name for _, name in rows}))
        return ClassData(
            path.resolve().name, "example_classes", classes, images, partial(_digest, files)
        )


def _digest(files: list[Path]) -> str:
    hashes = "".join(map(file_hash, files))
    return hashlib.sha256(hashes.encode()).hexdigest()


LAYOUT = ClassList()
