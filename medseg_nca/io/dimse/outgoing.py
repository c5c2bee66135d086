"""Files to be sent by C-STORE: what each holds, and what has to be proposed for them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from medseg_nca.io.dicom.files.sniff import meta_texts
from medseg_nca.io.dicom.problems import refusal

# Presentation contexts of one association: their ids are the odd numbers of a byte (PS3.8 9.3.2.2).
MOST_CONTEXTS = 128
_PREAMBLE, _MOST_META = 132, 2**17
_CLASS, _INSTANCE, _SYNTAX = 0x00020002, 0x00020003, 0x00020010
_UID = re.compile(r"[0-9.]{1,64}")


@dataclass(frozen=True)
class Outgoing:
    """A file that is to be sent, by its file meta (PS3.10 7.1).

    Attributes:
        path: the file.
        sop_class: SOP class.
        instance: SOPInstanceUID.
        syntax: transfer syntax.
        stamp: what changes when another file takes its place.
    """

    path: Path
    sop_class: str
    instance: str
    syntax: str
    stamp: tuple[int, int, int]

    @property
    def context(self) -> tuple[str, str]:
        """What has to be accepted, so that the file can be sent as it is."""
        return self.sop_class, self.syntax

    def is_unchanged(self) -> bool:
        """Whether the file is still the one that was looked at.

        Raises:
            OSError: if it is gone.
        """
        return _stamp(self.path.stat()) == self.stamp


def look_at(path: Path) -> Outgoing:
    """Read the file meta of a file.

    Raises:
        OSError: if it cannot be read.
        DicomError: if it is no DICOM file, or does not say what it holds.
    """
    with path.open("rb") as stream:
        stamp = _stamp(os.fstat(stream.fileno()))
        head = stream.read(_PREAMBLE + _MOST_META)
    if head[128:_PREAMBLE] != b"DICM":
        raise refusal("not-dicom", path, "is no DICOM file.", hint="Send files of DICOM (PS3.10).")
    texts = meta_texts(head[_PREAMBLE:])
    sop_class, instance, syntax = (texts.get(tag, "") for tag in (_CLASS, _INSTANCE, _SYNTAX))
    if not all(_UID.fullmatch(value) for value in (sop_class, instance, syntax)):
        raise refusal(
            "damaged", path, "does not say in its file meta what it holds.",
            hint="Write it again with its SOP class, instance and transfer syntax (PS3.10 7.1).",
        )  # fmt: skip
    return Outgoing(path, sop_class, instance, syntax, stamp)


def batches(files: Sequence[Outgoing]) -> Iterator[list[Outgoing]]:
    """Yield files that one association can send."""
    contexts = list(dict.fromkeys(file.context for file in files))
    for first in range(0, len(contexts), MOST_CONTEXTS):
        some = frozenset(contexts[first : first + MOST_CONTEXTS])
        yield [file for file in files if file.context in some]


def _stamp(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_ino, status.st_size, status.st_mtime_ns
