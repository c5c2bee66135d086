"""The images in a folder of the server.

An image file is called by its name without the suffix, or by its place where two would be the same;
a DICOM series by its SeriesInstanceUID.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from medseg_nca.errors import ImageError, MedsegError
from medseg_nca.io.formats import find_images, image_suffix, stem
from medseg_nca.serving.images.image import Image

# Seconds for which a look at the folder is good.
_FRESH = 10.0


class FolderSource:
    """Images of any kind in a tree of folders; an ``ImageSource``.

    Args:
        folder: it is looked at again when it changes.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._looked = float("-inf")
        self._state: object = None
        self._images: dict[str, Image] = {}

    def all(self) -> dict[str, Image]:
        """All images by id."""
        with self._lock:
            if time.monotonic() - self._looked > _FRESH:
                self._look()
            return dict(self._images)

    def find(self, image_id: str) -> Image | None:
        """One image; None if there is none of that id."""
        return self.all().get(image_id)

    @contextmanager
    def using(self, image: Image) -> Iterator[tuple[Path, ...]]:
        """Its files; whoever keeps the folder may remove them."""
        yield image.files

    def sweep(self) -> None:
        """Nothing is removed: the folder is not the server's."""

    def _look(self) -> None:
        state = frozenset(_states(self._folder))
        if state != self._state:
            self._images = {image.id: image for image in _found(self._folder)}
            self._state = state
        self._looked = time.monotonic()


def _states(folder: Path) -> Iterator[tuple[str, int, int]]:
    for path in folder.rglob("*"):
        try:
            state = path.stat()
        except OSError:
            continue
        yield str(path), state.st_size, state.st_mtime_ns


def _found(folder: Path) -> Iterator[Image]:
    try:
        files = find_images(folder, recursive=True)
    except MedsegError:
        files = []
    often = Counter(map(stem, files))
    for path in files:
        name = stem(path)
        if often[name] > 1:
            name = stem(path.relative_to(folder).with_name(path.name))
            name = "_".join((*path.relative_to(folder).parent.parts, name))
        yield Image(name, False, image_suffix(path) or "", (path,))
    yield from _series(folder)


def _series(folder: Path) -> Iterator[Image]:
    from medseg_nca.io.dicom.scan import scan

    try:
        found = scan(folder)
    except ImageError:
        return
    for series in found.series:
        if series.kind == "image" and series.stacks:
            yield Image(series.uid, True, ".dcm", series.files)
