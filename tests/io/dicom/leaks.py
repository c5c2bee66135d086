"""Search every byte of what was written for what identified a patient."""

from __future__ import annotations

import gzip
import re
import unicodedata
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from pydicom import Dataset, dcmread
from pydicom.uid import (
    PYDICOM_IMPLEMENTATION_UID,
    DeflatedExplicitVRLittleEndian,
    UID_dictionary,
)

from medseg_nca.io.dicom.quiet import quiet

BINARY = {"OB", "OW", "OF", "OD", "OL", "OV", "UN", "SQ"}
CODINGS = ("utf-8", "latin-1", "utf-16-le", "utf-16-be", "utf-32-le")


def original_uids(datasets: Iterable[Dataset]) -> set[str]:
    """Every UID in these data sets that is neither the standard's nor the writing software's."""
    found = set()
    for dataset in datasets:
        for element in dataset.iterall():
            if element.VR == "UI" and element.value:
                values = [element.value] if isinstance(element.value, str) else element.value
                found |= {str(v) for v in values if v not in UID_dictionary and len(v) > 3}
    return found - {PYDICOM_IMPLEMENTATION_UID}


def leaks(content: bytes, secrets: Iterable[str]) -> list[str]:
    """The secrets that occur in some bytes, in any of the codings, in any case.

    Those of up to three letters would be found by chance.
    """
    content = content.lower()
    return sorted(
        secret
        for secret in secrets
        if len(secret) > 3
        and any(secret.lower().encode(coding, "replace") in content for coding in CODINGS)
    )


def tree_leaks(root: Path, secrets: Iterable[str]) -> dict[str, list[str]]:
    """The secrets in the names and the content, also unpacked, of everything below a folder."""
    secrets = list(secrets)
    found = {}
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root)
        hits = leaks(str(name).encode(), secrets)
        if path.is_file():
            hits += [hit for content in _contents(path) for hit in leaks(content, secrets)]
        if hits:
            found[str(name)] = sorted(set(hits))
    return found


def _contents(path: Path) -> Iterator[bytes]:
    raw = path.read_bytes()
    yield raw
    if raw[:2] == b"\x1f\x8b":
        yield gzip.decompress(raw)
    if raw[128:132] == b"DICM":
        dataset = dcmread(path, stop_before_pixels=True)
        if dataset.file_meta.TransferSyntaxUID == DeflatedExplicitVRLittleEndian:
            start = 132 + 12 + dataset.file_meta.FileMetaInformationGroupLength
            yield zlib.decompress(raw[start:], -zlib.MAX_WBITS)


def texts(path: Path) -> list[str]:
    """Every text in a DICOM file, decoded by its character sets, at any depth."""
    with quiet():
        dataset = dcmread(path)
        list(dataset.iterall())
    found = [str(element.value) for element in dataset.iterall() if element.VR not in BINARY]
    return found + [str(element.value) for element in dataset.file_meta if element.VR not in BINARY]


def text_leaks(texts: Iterable[str], secrets: Iterable[str]) -> list[str]:
    """The secrets that occur in some texts, in any case; whole words if they are short."""
    texts = [unicodedata.normalize("NFC", text).casefold() for text in texts]
    return sorted(
        secret
        for secret in secrets
        for word in [unicodedata.normalize("NFC", secret).casefold()]
        if any(_occurs(word, text) for text in texts)
    )


def _occurs(word: str, text: str) -> bool:
    if len(word) > 3 and not word.isdigit():
        return word in text
    return re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text) is not None
