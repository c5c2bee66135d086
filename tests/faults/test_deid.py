"""The faults that were found in de-identification, in the files that showed them.

Each is made anew by code in ``tests/io/dicom`` and ``tests/pipelines``; here the files themselves
are tried where they lie (``faults/dicom`` beside the data sets).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from pydicom import dcmread

from medseg_nca.cli.main import cli
from tests.io.dicom.leaks import text_leaks, texts, tree_leaks

Find = Callable[[str], Path]

DATES, NAMES, OTHER, BITS = (
    "faults/dicom/06-deid-dates-in-labels",
    "faults/dicom/07-deid-short-and-respelled-names",
    "faults/dicom/08-deid-label-of-seg-with-other-header",
    "faults/dicom/09-deid-overlay-bits-without-overlay-group",
)
# What must not be in any output, and what is kept of the labels.
CASES = {
    f"{DATES}/d_date": (["20210314", "14.03.2021"], set()),
    f"{DATES}/d_date_seg": (["20210314", "14.03.2021"], set()),
    f"{DATES}/d_shift": (["20210314"], set()),
    f"{NAMES}/d_idpart": (["778812"], set()),
    f"{NAMES}/d_initials": (["Z.H.", "27.5.41", "27.05.1941"], set()),
    f"{NAMES}/d_short": (["Bo Xu"], {"Liver"}),
    f"{NAMES}/d_short_seg": (["Bo Xu"], {"Liver"}),
    f"{NAMES}/d_umlaut": (["Mueller", "Muller", "Müller"], set()),
    f"{NAMES}/d_umlaut_seg": (["Mueller", "Muller", "Müller"], set()),
    f"{OTHER}/d_other_seg": (["Zwickelbauer"], {"Liver"}),
}


def run(*args: object) -> str:
    result = CliRunner(env={"COLUMNS": "300"}).invoke(cli, ["dicom", *map(str, args)])
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dates", ["remove", "shift"])
def test_copies(name: str, dates: str, shared_data: Find, tmp_path: Path) -> None:
    secrets, kept = CASES[name]
    source = shared_data(name)
    run("deidentify", source, "--out", tmp_path / "o", "--dates", dates, "--keep-labels")
    assert tree_leaks(tmp_path / "o", secrets) == {}
    found: list[str] = []
    for path in (tmp_path / "o").rglob("*.dcm"):
        found += texts(path)
    assert text_leaks(found, secrets) == []
    assert kept <= set(found)


@pytest.mark.parametrize("name", CASES)
def test_data_sets(name: str, shared_data: Find, tmp_path: Path) -> None:
    secrets, kept = CASES[name]
    shown = run("import", shared_data(name), "--out", tmp_path / "o", "--deidentify", "--json")
    assert tree_leaks(tmp_path / "o", secrets) == {}
    assert text_leaks([shown], secrets) == []
    labels = json.loads((tmp_path / "o" / "dataset.json").read_text())["labels"].values()
    assert kept <= set(labels)


def test_drawings_in_unused_bits(shared_data: Find, tmp_path: Path) -> None:
    source = shared_data(f"{BITS}/p_highbits")
    before = [dcmread(path) for path in sorted(source.glob("*.dcm"))]
    assert any((np.frombuffer(d.PixelData, "<u2") >> 12).any() for d in before)
    run("deidentify", source, "--out", tmp_path / "o")
    after = [dcmread(path) for path in (tmp_path / "o").rglob("*.dcm")]
    after.sort(key=lambda d: int(d.InstanceNumber))
    before.sort(key=lambda d: int(d.InstanceNumber))
    for old, new in zip(before, after, strict=True):
        values = np.frombuffer(old.PixelData, "<u2") & 0x0FFF
        np.testing.assert_array_equal(np.frombuffer(new.PixelData, "<u2"), values)
