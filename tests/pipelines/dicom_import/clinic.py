"""A clinic with images, annotations and private names, for the tests of the import."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from medseg_nca.io.dicom.deid.pseudonyms import Pseudonyms
from medseg_nca.pipelines.dicom_import import ImportSettings
from tests.io.dicom import build, referring

KEY = Pseudonyms(b"a key for tests, not a secret")
HIDE = ImportSettings(deidentify=True, key=KEY)


def ct(**tags: Any) -> list[Dataset]:
    return build.classic(build.pixels(), build.OBLIQUE, **tags)


def box(low: int, high: int) -> NDArray[np.bool_]:
    """``(planes, rows, columns, 1)``, true in a cuboid."""
    mask = np.zeros((5, 8, 6, 1), bool)
    mask[1:4, low:high, 1:4] = True
    return mask


def clinic(root: Path) -> Path:
    """Two patients: a CT with a SEG, an MR with an RTSTRUCT, one with a gap, one without labels."""
    first = ct()
    build.write(root / "a" / "ct", first)
    build.write(root / "a" / "seg", [referring.seg(first, box(2, 5), names=["Zorrofake liver"])])
    mr = build.classic(build.pixels(), modality="MR", series="m", SeriesNumber=2)
    build.write(root / "a" / "mr", mr)
    drawn = {
        name: [(plane, referring.square(build.AXIAL, plane, 1.0, 4.0))]
        for name, plane in (("Spleen", 2), ("by Fakedoctorzq", 1))
    }
    structures = referring.rtstruct(mr, drawn)
    build.write(root / "a" / "rt", [structures])
    gap = ct(series="gap", SeriesNumber=3)
    build.write(root / "Zorrofake^Quixotina" / "FAKEID-0815-XQ", [*gap[:2], *gap[3:]])
    other = ct(series="b", study="b", PatientID="FAKESECOND-1", PatientName="Fakesecondzq^Per")
    build.write(root / "b", other)
    (root / "notes.txt").write_text("no DICOM")
    return root


def region(value: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "SCT", "organ"
    return item
