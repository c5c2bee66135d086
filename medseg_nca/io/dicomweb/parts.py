"""Bodies of several parts (multipart/related, RFC 2387), read into files and written from them."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from email.message import Message
from pathlib import Path
from typing import BinaryIO

from medseg_nca.errors import DependencyError

DICOM = "application/dicom"
_CHUNK = 2**18
# Bytes of all headers of one part.
_MOST_HEADERS = 2**14


class WrongParts(ValueError):  # noqa: N818
    """A body is none of several DICOM files."""


class TooManyParts(ValueError):  # noqa: N818
    """A body has more files than are allowed."""


class PartFiles:
    """Writes each part of a body into a file of our own name, while it arrives.

    Args:
        folder: for ``000001.dcm`` and so on, in the order of the parts.
        content_type: of the answer; a single ``application/dicom`` counts as one part.
        most: parts that are taken.

    Raises:
        WrongParts: if the type is neither.
        DependencyError: if python-multipart is not installed.
    """

    def __init__(self, folder: Path, content_type: str, most: int) -> None:
        self._folder, self._most = folder, most
        self._file: BinaryIO | None = None
        self._paths: list[Path] = []
        self._ended = self._single = False
        self._field, self._value, self._headers = b"", b"", 0
        kind = Message()
        kind["Content-Type"] = content_type
        boundary = kind.get_param("boundary")
        if kind.get_content_type() == DICOM:
            self._single = True
            self._begin()
        elif kind.get_content_type() == "multipart/related" and isinstance(boundary, str):
            self._parser = self._new_parser(boundary)
        else:
            raise WrongParts("It is neither application/dicom nor multipart/related.")

    @property
    def count(self) -> int:
        """Parts that have begun."""
        return len(self._paths)

    def feed(self, data: bytes) -> None:
        """Take the next piece.

        Raises:
            WrongParts: if it is no body of parts, or a part is no DICOM.
            TooManyParts: if there are more than allowed.
        """
        from python_multipart.exceptions import FormParserError

        if self._single:
            self._write(data, 0, len(data))
            return
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise WrongParts("It is no body of several parts.") from error

    def finish(self) -> tuple[Path, ...]:
        """End the body; the files.

        Raises:
            WrongParts: if it ended before its end.
        """
        if self._single:
            self._end()
        elif not self._ended:
            raise WrongParts("It ended before its end.")
        return tuple(self._paths)

    def close(self) -> None:
        """Close what is open, whatever came."""
        self._end()

    def _new_parser(self, boundary: str):  # type: ignore[no-untyped-def]
        try:
            from python_multipart.multipart import MultipartParser
        except ImportError as error:
            raise DependencyError(
                "DICOMweb needs the package python-multipart, which is not installed.",
                hint="pip install 'medseg-nca[serve]'",
            ) from error
        return MultipartParser(
            boundary.encode("latin-1", "replace"),
            {
                "on_part_begin": self._begin, "on_part_data": self._write,
                "on_part_end": self._end, "on_header_field": self._add_field,
                "on_header_value": self._add_value, "on_header_end": self._header,
                "on_end": self._all,
            },
        )  # fmt: skip

    def _begin(self) -> None:
        if len(self._paths) >= self._most:
            raise TooManyParts(f"It has more than {self._most:,} parts.")
        path = self._folder / f"{len(self._paths) + 1:06d}.dcm"
        self._paths.append(path)
        self._file, self._headers = path.open("xb"), 0

    def _write(self, data: bytes, start: int, end: int) -> None:
        assert self._file is not None
        self._file.write(data[start:end])

    def _end(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _all(self) -> None:
        self._ended = True

    def _add_field(self, data: bytes, start: int, end: int) -> None:
        self._field += self._counted(data[start:end])

    def _add_value(self, data: bytes, start: int, end: int) -> None:
        self._value += self._counted(data[start:end])

    def _counted(self, piece: bytes) -> bytes:
        self._headers += len(piece)
        if self._headers > _MOST_HEADERS:
            raise WrongParts("A part has headers without an end.")
        return piece

    def _header(self) -> None:
        name, value = self._field.strip().lower(), self._value.strip().lower()
        self._field = self._value = b""
        if name == b"content-type" and value.partition(b";")[0].strip() != DICOM.encode():
            raise WrongParts("A part is no application/dicom.")


class PartsBody:
    """DICOM files as one body of several parts; it can be sent more than once.

    Args:
        paths: the files.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._boundary = secrets.token_hex(16)
        self._paths = tuple(paths)
        self._head = f"--{self._boundary}\r\nContent-Type: {DICOM}\r\n\r\n".encode()
        self._tail = f"--{self._boundary}--\r\n".encode()

    @property
    def headers(self) -> dict[str, str]:
        """What describes it; with its length, as some servers take no chunks."""
        size = sum(path.stat().st_size + len(self._head) + 2 for path in self._paths)
        kind = f'multipart/related; type="{DICOM}"; boundary={self._boundary}'
        return {"Content-Type": kind, "Content-Length": str(size + len(self._tail))}

    def pieces(self) -> Iterator[bytes]:
        """The bytes, from the beginning."""
        for path in self._paths:
            yield self._head
            with path.open("rb") as file:
                while piece := file.read(_CHUNK):
                    yield piece
            yield b"\r\n"
        yield self._tail
