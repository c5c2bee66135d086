"""Read one DICOM file that may be cut, damaged, or made to break its reader.

The file meta is read first, the transfer syntax is looked up, the layout of the data set is
checked (:mod:`layout`), and only then does pydicom parse it, or the part of it that is wanted. A
scan takes the elements as they lie (:func:`scanned`). Every reason not to is a :class:`DicomError`
with one of these kinds:

``unreadable``, ``empty``, ``not-dicom``, ``dicomdir``, ``truncated``, ``damaged``, ``too-large``,
``unsupported-syntax``, ``encrypted``.
"""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from medseg_nca.io.dicom.files.attributes import tag_of
from medseg_nca.io.dicom.files.claims import check_claims
from medseg_nca.io.dicom.files.data import InflatedSource, OpenDataSet
from medseg_nca.io.dicom.files.elements import Elements, elements_of
from medseg_nca.io.dicom.files.layout import BULK, Walker
from medseg_nca.io.dicom.files.places import HeaderLayout, Pixels
from medseg_nca.io.dicom.files.raw import RawElements
from medseg_nca.io.dicom.files.settle import settle
from medseg_nca.io.dicom.files.sniff import (
    is_encrypted,
    looks_like_dicom,
    meta_length,
    meta_start,
    meta_texts,
)
from medseg_nca.io.dicom.files.syntaxes import DEFLATED, Syntax, find_syntax
from medseg_nca.io.dicom.problems import DicomError, damaged, refusal, too_large, truncated
from medseg_nca.io.dicom.quiet import quiet

if TYPE_CHECKING:
    from pydicom.dataset import Dataset, FileDataset, FileMetaDataset

__all__ = [
    "DicomError",
    "Opened",
    "looks_like_dicom",
    "opened",
    "read_file",
    "read_header",
    "scanned",
]

_DICOMDIR = "1.2.840.10008.1.3.10"
# Parts of headers up to this size are remembered; functional groups of many frames are larger.
_REMEMBERED = 2**14
_USUAL_META, _MAX_META = 2**10, 2**17
_SYNTAX, _SOP_CLASS = 0x00020010, 0x00020002
_SOP_INSTANCE = 0x00080018
_NOT_DICOM = "Name a DICOM file, or a folder with DICOM files."


@dataclass(frozen=True)
class Opened:
    """A file that is open for reading its pixels.

    Attributes:
        path: the file.
        dataset: the header, without pixel data, or the part of it that was asked for; other files
            may share that: it is not to be changed.
        syntax: how it is encoded.
        source: the bytes that the offsets of ``pixels`` count in.
        pixels: None if there are none.
        instance: SOPInstanceUID; "" if there is none, or all of the header was asked for.
    """

    path: Path
    dataset: Dataset
    syntax: Syntax
    source: OpenDataSet
    pixels: Pixels | None
    instance: str = ""


def read_header(path: Path) -> FileDataset:
    """Read everything but bulk data.

    Left out are the pixels and what follows them, values of bytes longer than
    ``layout.BULK`` (overlays, waveforms, encapsulated documents, private data), malformed sequences
    of defined length, and values that no reader understands. The claims about the pixels (rows,
    columns, frames, bits) are compared with what the file holds.

    Raises:
        DicomError: see the module.
    """
    with opened(path) as file:
        return cast("FileDataset", file.dataset)


def read_file(path: Path, *, bulk: int = BULK) -> FileDataset:
    """Read the header and the pixel data, still encoded as in the file.

    Left out is what :func:`read_header` leaves out but the pixels.

    Args:
        path: the file.
        bulk: longer values of bytes are left out; ``layout.MAX_HEADER`` keeps all.

    Raises:
        DicomError: see the module; ``too-large`` also if there is not enough memory.
    """
    with opened(path, bulk=bulk) as file, _guarded(Path(path)):
        if file.pixels is not None:
            _add_pixels(file, file.pixels)
        return cast("FileDataset", file.dataset)


@contextmanager
def opened(
    path: Path, *, bulk: int = BULK, only: Callable[[int], bool] | None = None
) -> Iterator[Opened]:
    """Open a file, check it, and keep it open for its pixels.

    Args:
        path: the file.
        bulk: see :func:`read_file`.
        only: which tags the header has to hold, where not all are needed: most of the time goes
            into values that nobody asks for.

    Raises:
        DicomError: see the module.
    """
    path = Path(path)
    with _stream(path) as stream:
        with _guarded(path):
            found = _survey(path, stream, bulk, only)
            dataset = _parse(found) if found.elements is None else _parse_part(found)
            _check(found, found.elements or elements_of(dataset))
            uids = () if found.elements is None else found.elements.texts(_SOP_INSTANCE)
        instance = uids[0] if uids else ""
        yield Opened(path, dataset, found.syntax, found.source, found.layout.pixels, instance)


@contextmanager
def scanned(path: Path) -> Iterator[Elements]:
    """Open a file, check it, and look at its elements as they lie there.

    A sequence of defined length that nobody asks for is not looked into. Asking for one may raise
    :class:`DicomError`, if it is nested too deep or has too many items.

    Raises:
        DicomError: see the module.
    """
    path = Path(path)
    with _stream(path) as stream:
        with _guarded(path):
            found = _survey(path, stream, BULK, lambda _: False)
            assert found.elements is not None  # a quick survey
            _check(found, found.elements)
        yield found.elements


@contextmanager
def _stream(path: Path) -> Iterator[BinaryIO]:
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # opening a pipe would wait for ever
            raise refusal("unreadable", path, "is not a file.", hint=_NOT_DICOM)
        stream = path.open("rb", buffering=2**16)
    except OSError as error:
        raise _unreadable(path, error) from error
    with stream:
        yield stream


@contextmanager
def _guarded(path: Path) -> Iterator[None]:
    """Turn whatever pydicom raises over a strange file into a :class:`DicomError`."""
    try:
        with quiet():
            yield
    except DicomError:
        raise
    except MemoryError as error:
        raise too_large(path, "there is not enough memory to read it.") from error
    except OSError as error:
        if error.errno is None:  # pydicom's own
            raise damaged(path, f"cannot be parsed ({type(error).__name__}).") from error
        raise _unreadable(path, error) from error
    except Exception as error:
        raise damaged(path, f"cannot be parsed ({type(error).__name__}).") from error


@dataclass(frozen=True)
class _Surveyed:
    """A file whose layout is known; ``elements`` is None after a survey that was not quick."""

    path: Path
    meta: bytes
    syntax: Syntax
    source: OpenDataSet
    layout: HeaderLayout
    elements: RawElements | None

    @property
    def sop_class(self) -> str:
        """MediaStorageSOPClassUID."""
        return meta_texts(self.meta).get(_SOP_CLASS, "")


def _survey(
    path: Path, stream: BinaryIO, bulk: int, only: Callable[[int], bool] | None
) -> _Surveyed:
    meta, after = _read_meta(path, stream, _check_kind(path, stream))
    told = meta_texts(meta)
    syntax = find_syntax(path, told.get(_SYNTAX) or _guess_syntax(stream, after))
    if told.get(_SOP_CLASS) == _DICOMDIR:
        raise refusal(
            "dicomdir",
            path,
            "is a DICOMDIR, the list of the files around it.",
            hint="Name the folder it lies in; its files are found without it.",
        )
    deflated = syntax.uid == DEFLATED
    source = InflatedSource(stream, after, path) if deflated else OpenDataSet(stream, after)
    walker = Walker(source, path, implicit=syntax.implicit, little=syntax.little, bulk=bulk)
    if only is None:
        return _Surveyed(path, meta, syntax, source, walker.survey(), None)
    layout = walker.quick_survey(only)
    elements = RawElements(walker, layout.elements, implicit=layout.implicit)
    return _Surveyed(path, meta, syntax, source, layout, elements)


def _check(found: _Surveyed, header: Elements) -> None:
    _check_whole(found, header)
    if found.layout.pixels is not None:
        check_claims(found.path, header, found.layout.pixels, found.source)


def _check_kind(path: Path, stream: BinaryIO) -> int:
    """Where the file meta or the data set starts, if this is a DICOM file at all."""
    head = stream.read(1024)
    if not head:
        raise refusal("empty", path, "is empty.", hint="Export it again from where it came from.")
    start = meta_start(head, os.fstat(stream.fileno()).st_size)
    if start is not None:
        return start
    if is_encrypted(head):
        raise refusal(
            "encrypted",
            path,
            "is encrypted (a Secure DICOM file, PS3.15).",
            hint="Decrypt it with the key of its recipient first.",
        )
    raise refusal("not-dicom", path, "is not a DICOM file.", hint=_NOT_DICOM)


def _read_meta(path: Path, stream: BinaryIO, start: int) -> tuple[bytes, int]:
    """The file meta information (PS3.10 7.1), empty if there is none, and where it ends."""
    for most in (_USUAL_META, _MAX_META):
        stream.seek(start)
        head = stream.read(most)
        size = meta_length(head)
        if size <= len(head):
            return head[:size], start + size
    raise truncated(path, "it ends within its file meta information.")


def _parse_meta(meta: bytes, syntax: Syntax) -> FileMetaDataset:
    from pydicom.dataset import FileMetaDataset
    from pydicom.filereader import read_dataset
    from pydicom.uid import UID

    dataset = read_dataset(io.BytesIO(meta), is_implicit_VR=False, is_little_endian=True)
    result = FileMetaDataset(settle(dataset))
    result.TransferSyntaxUID = UID(syntax.uid)
    return result


def _guess_syntax(stream: BinaryIO, start: int) -> str:
    """The syntax of a file that does not say it, from its first element."""
    from medseg_nca.io.dicom.files.syntaxes import EXPLICIT_BIG, EXPLICIT_LITTLE, IMPLICIT_LITTLE

    stream.seek(start)
    first = stream.read(6)
    if first[:1] == b"\0" and first[1:2] != b"\0":
        return EXPLICIT_BIG
    return EXPLICIT_LITTLE if first[4:].isalpha() and first[4:].isupper() else IMPLICIT_LITTLE


def _parse(found: _Surveyed) -> FileDataset:
    from pydicom.dataset import FileDataset
    from pydicom.filereader import read_dataset

    layout, little = found.layout, found.syntax.little
    dataset = read_dataset(io.BytesIO(_bytes(found)), layout.implicit, little)
    encoding = dataset._character_set
    result = FileDataset(
        str(found.path),
        settle(dataset),
        preamble=b"\0" * 128,
        file_meta=_parse_meta(found.meta, found.syntax),
        is_implicit_VR=layout.implicit,
        is_little_endian=little,
    )
    result.set_original_encoding(layout.implicit, little, encoding)
    return result


def _parse_part(found: _Surveyed) -> Dataset:
    data = _bytes(found)
    parse = _parsed if len(data) <= _REMEMBERED else _parsed.__wrapped__
    return parse(data, implicit=found.layout.implicit, little=found.syntax.little)


@lru_cache(16)
def _parsed(data: bytes, *, implicit: bool, little: bool) -> Dataset:
    """Parse a part of a header, or take it from memory: most files of a series share such parts."""
    from pydicom.filereader import read_dataset

    dataset = read_dataset(io.BytesIO(data), implicit, little)
    encoding = dataset._character_set
    settle(dataset).set_original_encoding(implicit, little, encoding)
    return dataset


def _bytes(found: _Surveyed) -> bytes:
    ranges = found.layout.ranges
    return b"".join(found.source.read(start, end - start) for start, end in ranges)


def _check_whole(found: _Surveyed, header: Elements) -> None:
    """Refuse an image without pixels: it has been encrypted, or cut between two elements."""
    path, layout = found.path, found.layout
    if layout.pixels is not None:
        return
    if tag_of("EncryptedAttributesSequence") in header:
        raise refusal(
            "encrypted",
            path,
            "has its content in encrypted attributes (PS3.15 annex E), and no pixels.",
            hint="Decrypt it with the key of its recipient first.",
        )
    from pydicom.uid import UID

    sop_class = "\\".join(header.texts(tag_of("SOPClassUID"))) or found.sop_class
    is_image = UID(sop_class, validation_mode=0).name.endswith("Image Storage")
    if is_image or tag_of("Rows") in header:
        raise truncated(
            path, f"the pixel data (7FE0,0010) is missing; the last element is {layout.reached}."
        )
    if not any(True for _ in header.tags()):
        raise truncated(path, "there is nothing after the file meta information.")


def _add_pixels(file: Opened, pixels: Pixels) -> None:
    from pydicom.dataelem import DataElement

    element = pixels.element
    vr = element.vr.decode() if element.vr else "OW"
    start = element.value
    encapsulated = pixels.fragments is not None
    value = file.source.read(start, pixels.end - start)
    item = DataElement(element.tag, vr, value, is_undefined_length=encapsulated)
    file.dataset[element.tag] = item


def _unreadable(path: Path, error: OSError) -> DicomError:
    return refusal("unreadable", path, f"cannot be read ({error.strerror or error}).")
