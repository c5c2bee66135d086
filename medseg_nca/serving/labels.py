"""Label maps that people saved for images, under tags; every version is kept."""

from __future__ import annotations

import json
import os
import re
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medseg_nca.io.atomic import write_json
from medseg_nca.io.peek import peek
from medseg_nca.serving.errors import Refused
from medseg_nca.serving.images.image import Image, key_of
from medseg_nca.serving.intake import suffix_of

_TAG = re.compile(r"[A-Za-z0-9_\-]{1,64}")
FINAL = "final"
_META = "label.json"


@dataclass(frozen=True)
class SavedLabel:
    """The newest version of a label map."""

    image_id: str
    tag: str
    version: int
    path: Path
    suffix: str
    saved: float


class Labels:
    """Saved label maps of a server; may be used from several threads.

    Args:
        folder: for them.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def save(self, image: Image, tag: str, upload: Path, user: str) -> SavedLabel:
        """Keep a label map as the next version.

        Args:
            image: that it belongs to.
            tag: for example "final".
            upload: the file, which is moved.
            user: who saved it.

        Raises:
            Refused: with 422 if it is no image, has another size than its image, or the tag cannot
                be one.
        """
        if _TAG.fullmatch(tag) is None:
            raise Refused(422, "A tag has 1 to 64 letters, digits and _ -.")
        suffix = suffix_of(upload)
        if suffix is None:
            raise Refused(422, "The label map is of no known format.", hint="Send NIfTI or NRRD.")
        named = upload.rename(upload.with_name("label" + suffix))
        _check_size(image, named)
        with self._lock:
            place = self._folder / key_of(image.id) / tag
            place.mkdir(parents=True, exist_ok=True, mode=0o700)
            before = self._read(place)
            version = 1 if before is None else before.version + 1
            target = place / f"v{version:04d}{suffix}"
            os.replace(named, target)
            tree = {"image": image.id, "version": version, "suffix": suffix, "user": user,
                    "saved": time.time()}  # fmt: skip
            write_json(place / _META, tree)
            found = self._read(place)
        assert found is not None
        return found

    def get(self, image_id: str, tag: str) -> SavedLabel:
        """The newest version.

        Raises:
            Refused: with 404 if there is none.
        """
        known = self.all().get(image_id, {})
        found = known.get(tag or FINAL) or (None if tag else next(iter(known.values()), None))
        if found is None:
            raise Refused(404, "There is no such label map.")
        return found

    def all(self) -> dict[str, dict[str, SavedLabel]]:
        """The newest versions, by image and tag."""
        found: dict[str, dict[str, SavedLabel]] = {}
        for place in sorted(self._folder.glob("*/*")):
            label = self._read(place)
            if label is not None:
                found.setdefault(label.image_id, {})[label.tag] = label
        return found

    def _read(self, place: Path) -> SavedLabel | None:
        try:
            tree: Any = json.loads((place / _META).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        path = place / f"v{tree['version']:04d}{tree['suffix']}"
        return SavedLabel(
            tree["image"], place.name, tree["version"], path, tree["suffix"], tree["saved"]
        )


def _check_size(image: Image, label: Path) -> None:
    """A label map lies on the grid of its image."""
    if image.dicom:
        return
    theirs, ours = peek(image.files), peek((label,))
    if theirs is not None and ours is not None and theirs.shape != ours.shape:
        raise Refused(
            422,
            f"The label map has the size {' x '.join(map(str, ours.shape))}, its image "
            f"{' x '.join(map(str, theirs.shape))}.",
            hint="Save it on the grid of the image.",
        )
