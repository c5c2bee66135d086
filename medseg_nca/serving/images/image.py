"""One image that clients may name, and what gives such images."""

from __future__ import annotations

import hashlib
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from medseg_nca.io.dicom.remote import RemoteSeries

LONGEST_ID = 256


@dataclass(frozen=True)
class Image:
    """One image.

    Attributes:
        id: that clients name it by.
        dicom: whether it is a DICOM series.
        suffix: of its file; ".dcm" for DICOM.
        files: of it, where they lie on this machine; () for a series that is fetched when it is
            used (:meth:`ImageSource.using`).
        remote: such a series, as the server that has it describes it.
    """

    id: str
    dicom: bool
    suffix: str
    files: tuple[Path, ...] = ()
    remote: RemoteSeries | None = None

    @property
    def count(self) -> int | None:
        """How many files it has; None where that is not known yet."""
        return len(self.files) if self.remote is None else self.remote.instances

    def checksum(self) -> str:
        """SHA-256 of its one file, as MONAI Label writes it; "" for a series."""
        if len(self.files) != 1:
            return ""
        with self.files[0].open("rb") as stream:
            return f"SHA256:{hashlib.file_digest(stream, 'sha256').hexdigest()}"


class ImageSource(Protocol):
    """Gives images; may be used from several threads.

    All methods raise ``DicomWebError`` where the images lie on another server that does not do
    what it is asked for.
    """

    def all(self) -> dict[str, Image]:
        """All images by id."""

    def find(self, image_id: str) -> Image | None:
        """One image; None if there is none of that id."""

    def using(self, image: Image) -> AbstractContextManager[tuple[Path, ...]]:
        """The files of an image that :meth:`all` or :meth:`find` gave, which stay meanwhile."""

    def sweep(self) -> None:
        """Remove copies that are no longer needed; called once a minute."""


def key_of(image_id: str) -> str:
    """The name of a folder that belongs to an image."""
    return hashlib.sha256(image_id.encode("utf-8", "surrogatepass")).hexdigest()[:32]
