"""The images that clients may name: those of a folder of the server, and those that were sent.

An image file is called by its name without the suffix, or by its place where two would be the same;
a DICOM series by its SeriesInstanceUID. An id is only ever compared with this list: none is a path.
"""

from __future__ import annotations

import hashlib
import json
import logging
import random
import shutil
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from medseg_nca.errors import ImageError, MedsegError
from medseg_nca.io.atomic import write_json
from medseg_nca.io.formats import find_images, image_suffix, stem
from medseg_nca.serving.errors import Refused
from medseg_nca.serving.intake import Received

logger = logging.getLogger(__name__)

# Seconds for which a look at the folder is good.
_FRESH = 10.0
_ID, _FILES = "id.json", "files"
LONGEST_ID = 256


@dataclass(frozen=True)
class Image:
    """One image.

    Attributes:
        id: that clients name it by.
        files: of it.
        dicom: whether they are a DICOM series.
        suffix: of the file; ".dcm" for DICOM.
    """

    id: str
    files: tuple[Path, ...]
    dicom: bool
    suffix: str

    def checksum(self) -> str:
        """SHA-256 of its one file, as MONAI Label writes it; "" for a series."""
        if len(self.files) != 1:
            return ""
        with self.files[0].open("rb") as stream:
            return f"SHA256:{hashlib.file_digest(stream, 'sha256').hexdigest()}"


class Studies:
    """The images of a server; may be used from several threads.

    Args:
        folder: with images of any kind, looked at again when it changes; None for none.
        sent: folder for images that clients send.
    """

    def __init__(self, folder: Path | None, sent: Path) -> None:
        self._folder, self._sent = folder, sent
        self._lock = threading.Lock()
        self._looked = float("-inf")
        self._state: object = None
        self._images: dict[str, Image] = {}
        sent.mkdir(parents=True, exist_ok=True, mode=0o700)

    def all(self) -> dict[str, Image]:
        """All images by id."""
        with self._lock:
            if time.monotonic() - self._looked > _FRESH:
                self._look()
            return {**self._images, **self._received()}

    def get(self, image_id: str) -> Image:
        """One image.

        Raises:
            Refused: with 404 if there is none of that id.
        """
        image = self.all().get(image_id)
        if image is None:
            raise Refused(
                404, "There is no image of that id.", hint="GET /datastore/?output=all lists them."
            )
        return image

    def add(self, image_id: str, received: Received) -> None:
        """Keep an image that a client sent.

        Raises:
            Refused: with 409 if there is one of that id, 422 if it cannot be an id.
        """
        if not 0 < len(image_id) <= LONGEST_ID or not image_id.isprintable():
            raise Refused(422, f"An id has 1 to {LONGEST_ID} letters.")
        if image_id in self.all():
            raise Refused(409, "There is an image of that id.", hint="Choose another one.")
        place = self._sent / key_of(image_id)
        try:
            (place / _FILES).mkdir(parents=True, mode=0o700)
        except FileExistsError:
            shutil.rmtree(place, ignore_errors=True)  # what was begun and not finished
            (place / _FILES).mkdir(parents=True, mode=0o700)
        for path in received.files:
            shutil.move(path, place / _FILES / path.name)
        write_json(place / _ID, {"id": image_id, "dicom": received.kind == "dicom"})

    def sample(self, labelled: set[str]) -> Image | None:
        """One of the images without a label, by chance; None if all have one."""
        images = [image for name, image in self.all().items() if name not in labelled]
        return random.SystemRandom().choice(images) if images else None

    def _look(self) -> None:
        if self._folder is not None:
            state = frozenset(_states(self._folder))
            if state != self._state:
                self._images = {image.id: image for image in _found(self._folder)}
                self._state = state
        self._looked = time.monotonic()

    def _received(self) -> dict[str, Image]:
        found = {}
        for place in self._sent.iterdir():
            try:
                tree = json.loads((place / _ID).read_text(encoding="utf-8"))
                files = tuple(sorted((place / _FILES).iterdir()))
            except (OSError, ValueError):
                continue
            suffix = ".dcm" if tree["dicom"] else image_suffix(files[0]) or ""
            found[tree["id"]] = Image(tree["id"], files, tree["dicom"], suffix)
        return found


def key_of(image_id: str) -> str:
    """The name of a folder that belongs to an image."""
    return hashlib.sha256(image_id.encode("utf-8", "surrogatepass")).hexdigest()[:32]


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
        yield Image(name, (path,), False, image_suffix(path) or "")
    yield from _series(folder)


def _series(folder: Path) -> Iterator[Image]:
    from medseg_nca.io.dicom.scan import scan

    try:
        found = scan(folder)
    except ImageError:
        return
    for series in found.series:
        if series.kind == "image" and series.stacks:
            yield Image(series.uid, series.files, True, ".dcm")
