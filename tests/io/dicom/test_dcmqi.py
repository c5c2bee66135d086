"""DICOM SEG as dcmqi reads it: the same voxels at the same places."""

from __future__ import annotations

import dataclasses
import subprocess
from pathlib import Path

import numpy as np
import pytest

from medseg_nca.io.dicom.check.run import dciodvfy_path
from medseg_nca.io.write import write_result, write_results
from tests.io.writers import results
from tests.io.writers.dcmqi import segments

pytestmark = pytest.mark.peer


@pytest.mark.parametrize("enhanced", [False, True], ids=["classic", "enhanced"])
@pytest.mark.parametrize("seg_type", ["binary", "fractional"])
@pytest.mark.parametrize("kind", results.KINDS)
def test_dice_is_one(tmp_path: Path, kind: str, seg_type: str, enhanced: bool) -> None:
    image = results.series(tmp_path / "series", kind, enhanced=enhanced)
    segmentation = results.result(image)
    labels = segmentation.label_map.array[0]
    ones = np.stack([labels == value for value in (0, 1, 2, 7)]).astype(np.float32)
    segmentation = dataclasses.replace(
        segmentation, probabilities=segmentation.label_map.with_array(ones)
    )
    path = write_result(segmentation, tmp_path / "out", "dicom-seg", seg_type=seg_type)
    found = segments(path, tmp_path / "itk")
    for number, value in ((1, 1), (2, 2), (3, 7)):
        theirs = found[number]
        wanted = results.in_space(image, labels == value)
        got = results.in_space(theirs, theirs.array[0] > 0)
        np.testing.assert_allclose(got, wanted, atol=5e-3)


def test_nothing_found_is_read_as_nothing(tmp_path: Path) -> None:
    image = results.series(tmp_path / "series", "oblique")
    path = write_result(results.empty(image), tmp_path / "out", "dicom-seg")
    found = segments(path, tmp_path / "itk")
    assert len(found) == 3
    assert not any(segment.array.any() for segment in found.values())


@pytest.mark.parametrize("found", [True, False], ids=["labels", "empty"])
@pytest.mark.parametrize("enhanced", [False, True], ids=["classic", "enhanced"])
@pytest.mark.parametrize("kind", results.KINDS)
def test_dciodvfy_finds_no_error(tmp_path: Path, kind: str, enhanced: bool, found: bool) -> None:
    program = dciodvfy_path()
    if program is None:
        pytest.skip("dciodvfy is not installed (Debian: dicom3tools)")
    image = results.series(tmp_path / "series", kind, enhanced=enhanced)
    segmentation = results.result(image) if found else results.empty(image)
    segmentation = dataclasses.replace(
        segmentation,
        quality={"uncertainty": 0.2},
        probabilities=results.probabilities(segmentation),
    )
    formats = ["dicom-seg", "rtstruct", "sr", "sc"]
    written = list(write_results(segmentation, tmp_path / "out", formats).values())
    for name, options in (("dicom-seg", {"seg_type": "fractional"}), ("sr", {})):
        written.append(write_result(segmentation, tmp_path / "more", name, **options))
    for path in written:
        said = subprocess.run([program, path], capture_output=True, text=True, timeout=60)
        assert "Error" not in said.stdout + said.stderr, path.name
