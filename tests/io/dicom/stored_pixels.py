"""Images for the tests of de-identified pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydicom import Dataset, dcmread
from pydicom.uid import (
    UID,
    ExplicitVRLittleEndian,
)

from medseg_nca.io.dicom.deid.deidentify import Deidentifier, deidentify_dataset, save_dataset
from medseg_nca.io.dicom.deid.pseudonyms import Pseudonyms
from tests.io.dicom import build

HOW = Deidentifier(Pseudonyms(b"a key for tests, not a secret"))
SECRET = b"Zorrofake"


def ids(syntax: str) -> str:
    return UID(syntax).name


def copy_of(original: Dataset, folder: Path) -> Any:
    """De-identify, write and read again; the written file is ``folder / "new.dcm"``."""
    save_dataset(deidentify_dataset(original, HOW), folder / "new.dcm")
    return dcmread(folder / "new.dcm")


def read(dataset: Dataset, folder: Path, syntax: str = ExplicitVRLittleEndian) -> Any:
    return dcmread(build.save(dataset, folder / "original.dcm", syntax))
