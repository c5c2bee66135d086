"""A patient whose traces can be searched for in whatever a server wrote."""

from __future__ import annotations

import base64
import gzip
import io
import re
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from tests.io.dicom.build import AXIAL, classic, pixels, write
from tests.serving.running import zipped

# Every text occurs nowhere by chance; each is searched for by itself.
TAGS = {
    "PatientName": "Zyxkanary^Wqvorname",
    "PatientID": "ZYXPID-90417",
    "OtherPatientIDs": "ZYXOTHER-311",
    "PatientBirthDate": "19370219",
    "PatientAddress": "7 Zyxstreet",
    "AccessionNumber": "ZYXACC-5512",
    "StudyID": "ZYXSTUDY-8",
    "StudyDescription": "Zyxdescription of a study",
    "SeriesDescription": "Zyxseries",
    "InstitutionName": "Zyxhospital",
    "ReferringPhysicianName": "Zyxdoctor^Wqdoctor",
    "OperatorsName": "Zyxoperator^Wqoperator",
}
PRIVATE, FILE_NAME, FOLDER = "Zyxprivate", "Zyxfile", "Wqfolder"
SECRETS = tuple(
    part for text in (*TAGS.values(), PRIVATE, FILE_NAME, FOLDER) for part in text.split("^")
)
# What is unpacked of one file at most; no test writes more.
_MOST = 2 * 10**8


def series(
    folder: Path, shape: tuple[int, int, int] = (8, 16, 14), name: str = "a", **tags: Any
) -> list[Path]:
    """A series of the patient, MR unless ``modality`` says otherwise."""
    how = {"modality": "MR", **TAGS, **tags}
    datasets = classic(pixels(shape, seed=len(name)), AXIAL, series=name, study="s", **how)
    for dataset in datasets:
        dataset.private_block(0x0011, PRIVATE, create=True).add_new(1, "LO", PRIVATE)
    return write(folder, datasets, name=FILE_NAME + "{:04d}.dcm")


def archive(files: list[Path]) -> bytes:
    """A zip of files; their names in it hold the patient's too."""
    return zipped({f"{FOLDER}/{path.parent.name}{path.name}": path.read_bytes() for path in files})


def traces(content: bytes) -> set[str]:
    """Which secrets bytes hold: plain, in other encodings, or packed."""
    found = set()
    for piece in _unpacked(content):
        small = piece.lower()
        found |= {secret for secret, forms in _FORMS.items() if any(f in small for f in forms)}
        found |= {secret for secret, forms in _BASE64.items() if any(f in piece for f in forms)}
    return found


def traces_in(folder: Path, but: str = "(?!)") -> dict[str, set[str]]:
    """Which files of a folder hold secrets, by their path in it; their names count too.

    ``but`` is a pattern of paths that are not looked into.
    """
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if re.fullmatch(but, name):
            continue
        secrets = traces(path.name.encode())
        if path.is_file():
            try:
                secrets |= traces(path.read_bytes())
            except FileNotFoundError:  # the server removed it meanwhile
                continue
        if secrets:
            found[name] = secrets
    return found


def _forms(secret: str) -> set[bytes]:
    plain = {secret, quote(secret), secret.replace(" ", "+")}
    codes = ("utf-8", "utf-16-le", "utf-16-be")
    return {text.lower().encode(code) for text in plain for code in codes}


def _base64(secret: str) -> set[bytes]:
    """The part of base64 that is the same whatever stands before and behind, for each offset."""
    found = set()
    for offset in range(3):
        text = base64.b64encode(b"\0" * offset + secret.encode()).rstrip(b"=")
        found.add(text[(0, 2, 3)[offset] : -1])
    return found


_FORMS = {secret: _forms(secret) for secret in SECRETS}
_BASE64 = {secret: _base64(secret) for secret in SECRETS}


def _unpacked(content: bytes) -> Iterator[bytes]:
    """The bytes as they are, and what is packed in them as zip, gzip or zlib."""
    yield content
    if content[:4] == b"PK\3\4":
        with zipfile.ZipFile(io.BytesIO(content)) as packed:
            for member in packed.infolist():
                yield member.filename.encode()
                yield packed.read(member)
    elif content[:2] == b"\x1f\x8b":
        yield _inflated(content, zlib.MAX_WBITS | 16)
    elif content[:2] in (b"\x78\x01", b"\x78\x9c", b"\x78\xda"):
        yield _inflated(content, zlib.MAX_WBITS)


def _inflated(content: bytes, kind: int) -> bytes:
    try:
        return zlib.decompressobj(kind).decompress(content, _MOST)
    except zlib.error:
        return b""


def control() -> None:
    """Show that the search finds what it looks for; else no test that uses it proves anything."""
    name = TAGS["PatientName"].split("^")[0]
    for content in (
        f"x {name.upper()} y".encode(), name.encode("utf-16-le"), gzip.compress(name.encode()),
        zipped({"a": name.encode()}), zipped({name: b""}), zlib.compress(name.encode()),
        *(base64.b64encode(b"." * n + name.encode() + b"...") for n in range(3)),
    ):  # fmt: skip
        assert name in traces(content), content
    assert traces(np.random.default_rng(0).bytes(10**6)) == set()
