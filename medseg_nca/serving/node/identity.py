"""Which instance a data set is, read with bounds from what a peer sent (PS3.4 B.2.3)."""

from __future__ import annotations

import io
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from medseg_nca.io.dicom.files.data import InflatedSource, OpenDataSet
from medseg_nca.io.dicom.files.layout import Walker
from medseg_nca.io.dicom.files.raw import RawElements
from medseg_nca.io.dicom.files.syntaxes import DEFLATED, SYNTAXES
from medseg_nca.io.dicom.problems import DicomError

_SOP_CLASS, _SOP_INSTANCE = 0x00080016, 0x00080018
_STUDY, _SERIES = 0x0020000D, 0x0020000E
_UID = re.compile(r"[0-9.]{1,64}")
# Real data sets have some hundreds of elements in front of their series.
_MOST_ELEMENTS = 20_000
# Packed bytes of a deflated data set in which its UIDs are looked for; what they inflate to lies in
# memory, at most 100 times as much. One thread at a time does that.
_MOST_PACKED = 2**20
_INFLATING = threading.Lock()


class NotUnderstood(Exception):  # noqa: N818
    """A data set does not say which instance it is."""


@dataclass(frozen=True)
class InstanceUids:
    """The UIDs of an instance."""

    sop_class_uid: str
    sop_uid: str
    study_uid: str
    series_uid: str


class DataInMemory(OpenDataSet):
    """A data set that is no file."""

    def __init__(self, data: bytes) -> None:
        self.stream, self.start, self._size = io.BytesIO(data), 0, len(data)


def is_uid(text: object) -> bool:
    """Whether a text could be a UID (PS3.5 9.1): 1 to 64 digits and dots.

    Devices send UIDs with leading zeros in their components; they are taken.
    """
    return isinstance(text, str) and bool(_UID.fullmatch(text)) and text.strip(".") != ""


def identify(path: Path, start: int, syntax_uid: str) -> InstanceUids:
    """Read the UIDs of a data set; the pixels are not looked at.

    Args:
        path: a file.
        start: of the data set in it.
        syntax_uid: its transfer syntax.

    Raises:
        NotUnderstood: if one of them is missing or malformed, or the data set is.
    """
    with path.open("rb") as stream, _source(stream, start, syntax_uid, path) as source:
        elements = elements_of(source, syntax_uid, last=_SERIES)
        uids = [_one(elements, tag) for tag in (_SOP_CLASS, _SOP_INSTANCE, _STUDY, _SERIES)]
    return InstanceUids(*uids)


def elements_of(source: OpenDataSet, syntax_uid: str, *, last: int = 0xFFFFFFFF) -> RawElements:
    """The elements of a data set up to a tag, or to the pixels.

    Raises:
        NotUnderstood: if the data set is malformed, or has more elements than one has.
    """
    syntax, count = SYNTAXES[syntax_uid], 0

    def wanted(_: int) -> bool:
        nonlocal count
        count += 1
        if count > _MOST_ELEMENTS:
            raise NotUnderstood
        return False

    walker = Walker(source, Path("object"), implicit=syntax.implicit, little=syntax.little)
    with suppress_damage():
        layout = walker.quick_survey(wanted, last=last)
        return RawElements(walker, layout.elements, implicit=layout.implicit)


@contextmanager
def suppress_damage() -> Iterator[None]:
    """Turn what our reader says of damaged files, which names elements, into one plain error."""
    try:
        yield
    except (DicomError, ValueError, RecursionError, EOFError) as error:
        raise NotUnderstood from error


@contextmanager
def _source(stream: BinaryIO, start: int, syntax_uid: str, path: Path) -> Iterator[OpenDataSet]:
    if syntax_uid != DEFLATED:
        yield OpenDataSet(stream, start)
        return
    stream.seek(start)
    with _INFLATING, suppress_damage():
        yield InflatedSource(io.BytesIO(stream.read(_MOST_PACKED)), 0, path)


def _one(elements: RawElements, tag: int) -> str:
    texts: tuple[str, ...] = ()
    with suppress(DicomError):
        texts = elements.texts(tag)
    if len(texts) != 1 or not is_uid(texts[0]):
        raise NotUnderstood
    return texts[0]
