"""The images that clients may name: those of a source, and those that were sent.

An id is only ever compared with what there is, or asked for at the source: none is a path.
"""

from __future__ import annotations

import json
import random
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from medseg_nca.io.atomic import write_json
from medseg_nca.io.formats import image_suffix
from medseg_nca.serving.errors import Refused
from medseg_nca.serving.images.image import LONGEST_ID, Image, ImageSource, key_of
from medseg_nca.serving.intake import Received

_ID, _FILES = "id.json", "files"


class Studies:
    """The images of a server; may be used from several threads.

    Args:
        source: of images; None for none.
        sent: folder for images that clients send.
    """

    def __init__(self, source: ImageSource | None, sent: Path) -> None:
        self._source, self._sent = source, sent
        self._adding = threading.Lock()
        sent.mkdir(parents=True, exist_ok=True, mode=0o700)

    def all(self) -> dict[str, Image]:
        """All images by id.

        Raises:
            DicomWebError: if they lie on another server, which cannot be asked.
        """
        listed = {} if self._source is None else self._source.all()
        return {**listed, **self._received()}

    def get(self, image_id: str) -> Image:
        """One image.

        Raises:
            Refused: with 404 if there is none of that id.
            DicomWebError: as :meth:`all`.
        """
        image = self._find(image_id)
        if image is None:
            raise Refused(
                404, "There is no image of that id.", hint="GET /datastore/?output=all lists them."
            )
        return image

    @contextmanager
    def using(self, image: Image) -> Iterator[tuple[Path, ...]]:
        """The files of an image, which stay where they are meanwhile.

        Raises:
            DicomWebError: if it has to be fetched and cannot be.
            Refused: with 503 if too many are being fetched.
        """
        if image.remote is None or self._source is None:
            yield image.files
            return
        with self._source.using(image) as files:
            yield files

    def add(self, image_id: str, received: Received) -> None:
        """Keep an image that a client sent.

        Raises:
            Refused: with 409 if there is one of that id, 422 if it cannot be an id.
            DicomWebError: as :meth:`all`.
        """
        if not 0 < len(image_id) <= LONGEST_ID or not image_id.isprintable():
            raise Refused(422, f"An id has 1 to {LONGEST_ID} letters.")
        taken = Refused(409, "There is an image of that id.", hint="Choose another one.")
        if self._find(image_id) is not None:
            raise taken
        with self._adding:
            if image_id in self._received():  # somebody sent it meanwhile
                raise taken
            self._keep(image_id, received)

    def _keep(self, image_id: str, received: Received) -> None:
        place = self._sent / key_of(image_id)
        shutil.rmtree(place, ignore_errors=True)  # what was begun and not finished
        (place / _FILES).mkdir(parents=True, mode=0o700)
        for path in received.files:
            shutil.move(path, place / _FILES / path.name)
        write_json(place / _ID, {"id": image_id, "dicom": received.kind == "dicom"})

    def sample(self, labelled: set[str]) -> Image | None:
        """One of the images without a label, by chance; None if all have one."""
        images = [image for name, image in self.all().items() if name not in labelled]
        return random.SystemRandom().choice(images) if images else None

    def sweep(self) -> None:
        """Remove copies that are no longer needed."""
        if self._source is not None:
            self._source.sweep()

    def _find(self, image_id: str) -> Image | None:
        received = self._received().get(image_id)
        if received is not None or self._source is None:
            return received
        return self._source.find(image_id)

    def _received(self) -> dict[str, Image]:
        found = {}
        for place in self._sent.iterdir():
            try:
                tree = json.loads((place / _ID).read_text(encoding="utf-8"))
                files = tuple(sorted((place / _FILES).iterdir()))
            except (OSError, ValueError):
                continue
            suffix = ".dcm" if tree["dicom"] else image_suffix(files[0]) or ""
            found[tree["id"]] = Image(tree["id"], tree["dicom"], suffix, files)
        return found
