"""Annotations whose labels were merged, whose outlines cancelled, or that name no image.

The inputs are those of the shared data's ``faults`` folder; the kinds are tested without it in
``tests/io/dicom/test_legend.py``, ``test_nesting.py`` and ``test_assign.py``.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medseg_nca.io.read import read_label
from tests.cli.runner import run

SharedData = Callable[[str], Path]


def imported(folder: Path, out: Path) -> tuple[dict[str, Any], list[dict[int, int]]]:
    """The data set's labels, and the voxels of each number in each label map."""
    result = run("dicom", "import", folder, "--out", out)
    assert result.exit_code == 0, result.output
    counts = []
    for path in sorted((out / "labelsTr").glob("*.nii.gz")):
        values, voxels = np.unique(read_label(path).array, return_counts=True)
        pairs = zip(values.tolist(), voxels.tolist(), strict=True)
        counts.append({value: count for value, count in pairs if value})
    return json.loads((out / "dataset.json").read_text())["labels"], counts


@pytest.mark.parametrize(
    ("folder", "names"),
    [("kidset", ["Niere links", "Niere rechts"]), ("regset", ["Liver mass", "Kidney mass"])],
)
def test_labels_of_two_cases(
    folder: str, names: list[str], shared_data: SharedData, tmp_path: Path
) -> None:
    source = shared_data("faults") / "dicom" / "14-labels-merged-across-cases" / folder
    labels, counts = imported(source, tmp_path / "out")
    assert labels == {"0": "background", "1": names[0], "2": names[1]}
    assert [list(found) for found in counts] == [[1], [2]]


def test_overlapping_outlines(shared_data: SharedData, tmp_path: Path) -> None:
    source = shared_data("faults") / "dicom" / "18-rtstruct-overlapping-outlines"
    _, counts = imported(source, tmp_path / "out")
    assert counts == [{1: 148}]
    provenance = json.loads((tmp_path / "out" / "provenance.json").read_text())
    assert [note["kind"] for note in provenance["cases"][0]["notes"]] == ["overlapping-contours"]


@pytest.mark.parametrize(
    ("folder", "voxels"), [("rt_noref", {1: 192}), ("seg_noref", {1: 69, 2: 309})]
)
def test_no_reference(
    folder: str, voxels: dict[int, int], shared_data: SharedData, tmp_path: Path
) -> None:
    source = shared_data("faults") / "dicom" / "20-annotation-without-reference" / folder
    assert imported(source, tmp_path / "out")[1] == [voxels]
