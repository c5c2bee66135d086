"""Objects with a patient in them, and their de-identified copies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydicom import Dataset, dcmread
from pydicom.uid import (
    ExplicitVRLittleEndian,
)

from medseg_nca.io.dicom.deid.deidentify import (
    Deidentifier,
    deidentify_dataset,
    save_dataset,
)
from medseg_nca.io.dicom.deid.pseudonyms import Pseudonyms
from tests.io.dicom import build

KEY = Pseudonyms(b"a key for tests, not a secret")
HOW = Deidentifier(KEY)


def stored(dataset: Dataset, folder: Path, syntax: str = ExplicitVRLittleEndian) -> Any:
    """A built data set as it is when it was read from a file."""
    return dcmread(build.save(dataset, folder / "original.dcm", syntax))


def treated(dataset: Dataset, folder: Path, how: Deidentifier = HOW) -> Any:
    """De-identify, write and read again; the written file is ``folder / "new.dcm"``."""
    save_dataset(deidentify_dataset(dataset, how), folder / "new.dcm")
    return dcmread(folder / "new.dcm")


def image(**tags: Any) -> Dataset:
    return build.classic(build.pixels((1, 32, 32)), **tags)[0]
