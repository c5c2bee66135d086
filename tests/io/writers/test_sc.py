"""Secondary captures: a picture with outlines, a note, and an honest flag about burned-in text."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest

from medseg_nca.io.dicom.objects.codes import colour
from medseg_nca.io.dicom.objects.overlay import enlarged, key_planes
from medseg_nca.io.dicom.read import read_dicom
from medseg_nca.io.write import write_result
from tests.io.dicom import build
from tests.io.writers import results


def test_the_outlines_are_there_in_their_colours(tmp_path: Path) -> None:
    image = results.series(tmp_path / "series", "oblique")
    dataset = pydicom.dcmread(write_result(results.result(image), tmp_path / "out", "sc"))
    picture = dataset.pixel_array
    assert picture.shape == (dataset.Rows, dataset.Columns, 3)
    for number in range(3):
        assert (picture == colour(number)).all(axis=-1).sum() > 50
    nothing = pydicom.dcmread(write_result(results.empty(image), tmp_path / "empty", "sc"))
    above = nothing.pixel_array[: nothing.Rows - 80]
    assert (above[..., 0] == above[..., 1]).all()


def test_what_it_says_of_itself(tmp_path: Path) -> None:
    image = results.series(tmp_path / "series")
    dataset = pydicom.dcmread(write_result(results.result(image), tmp_path / "out", "sc"))
    assert dataset.SOPClassUID.name == "Secondary Capture Image Storage"
    assert dataset.ImageComments == "Research use only. Not for clinical use."
    assert dataset.BurnedInAnnotation == "NO"
    assert list(dataset.ImageType) == ["DERIVED", "SECONDARY"]
    known = {plane.sop_instance_uid for plane in image.header["dicom"].stack.planes}
    assert {i.ReferencedSOPInstanceUID for i in dataset.SourceImageSequence} == known


@pytest.mark.parametrize(
    ("flag", "written"), [("YES", "YES"), ("NO", "NO"), (None, None)], ids=["yes", "no", "unknown"]
)
def test_burned_in_text_of_the_source_stays_declared(
    tmp_path: Path, flag: str | None, written: str | None
) -> None:
    pixels = build.pixels((1, 12, 9, 3), dtype="uint8")
    build.write(tmp_path / "s", build.classic(pixels, modality="OT", BurnedInAnnotation=flag))
    image = read_dicom([tmp_path / "s"])
    labels = np.zeros(image.shape, np.uint8)
    path = write_result(results.result(image, labels), tmp_path / "out", "sc")
    assert pydicom.dcmread(path).get("BurnedInAnnotation") == written


def test_key_planes_spread_over_what_was_found() -> None:
    found = np.zeros(50, bool)
    found[10:40] = True
    planes = key_planes(found, 4)
    assert planes == [10, 20, 29, 39]
    assert key_planes(np.zeros(3, bool)) == [0, 1, 2]


def test_pixels_look_square() -> None:
    assert enlarged(np.zeros((10, 20)), (2.0, 1.0)).shape == (260, 260)
    assert enlarged(np.zeros((600, 512)), (1.0, 1.0)).shape == (600, 512)
    assert max(enlarged(np.zeros((500, 20)), (30.0, 0.5)).shape) == 1024
