"""Every output goes to a real Orthanc by C-STORE and STOW-RS, and comes back pixel for pixel."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pydicom
import pytest

from medseg_nca.io.dicom.objects.export import write_series
from medseg_nca.io.volume import Volume
from medseg_nca.io.write import write_result, write_results
from tests.io.writers import results
from tests.orthanc import Orthanc

pytestmark = [pytest.mark.peer, pytest.mark.slow]
FORMATS = ("dicom-seg", "rtstruct", "sr", "sc")


@pytest.fixture(scope="session")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    """Orthanc on ports of its own with an empty storage; stopped at the end."""
    server = Orthanc(tmp_path_factory.mktemp("orthanc")).start()
    try:
        yield server
    finally:
        server.stop()


def _assert_same(back: pydicom.Dataset, sent: pydicom.Dataset) -> None:
    """Nothing is lost or changed, the pixels least of all."""
    for dataset in (back, sent):
        dataset.remove_private_tags()
    if "PixelData" in sent:
        assert np.array_equal(back.pixel_array, sent.pixel_array)
    assert back.to_json_dict() == sent.to_json_dict()


@pytest.mark.parametrize("way", ["c_store", "stow"])
@pytest.mark.parametrize("found", [True, False], ids=["labels", "empty"])
@pytest.mark.parametrize("kind", ["axial", "oblique"])
def test_every_output_comes_back(
    tmp_path: Path, orthanc: Orthanc, kind: str, found: bool, way: str
) -> None:
    image = results.series(tmp_path / "series", kind)
    segmentation = results.result(image) if found else results.empty(image)
    segmentation = dataclasses.replace(
        segmentation, probabilities=results.probabilities(segmentation), quality={"spread": 0.1}
    )
    written = list(write_results(segmentation, tmp_path / "out", FORMATS).values())
    written.append(
        write_result(segmentation, tmp_path / "more", "dicom-seg", seg_type="fractional")
    )
    for path in (*image.sources, *written):
        getattr(orthanc, way)(path)
    for path in written:
        sent = pydicom.dcmread(path)
        _assert_same(orthanc.wado(sent, tmp_path / "back"), sent)
    orthanc.forget()


def test_a_label_map_is_taken_by_stow(tmp_path: Path, orthanc: Orthanc) -> None:
    """Orthanc 1.10 does not know the class of label maps for C-STORE; STOW-RS takes it."""
    image = results.series(tmp_path / "series", "oblique")
    path = write_result(results.result(image), tmp_path / "out", "dicom-seg", seg_type="labelmap")
    orthanc.stow(path)
    sent = pydicom.dcmread(path)
    _assert_same(orthanc.wado(sent, tmp_path / "back"), sent)
    orthanc.forget()


@pytest.mark.parametrize("way", ["c_store", "stow"])
def test_an_exported_series_comes_back(tmp_path: Path, orthanc: Orthanc, way: str) -> None:
    array = np.random.default_rng(0).normal(size=(1, 6, 5, 3))
    for path in write_series(Volume(array, np.eye(4)), tmp_path / "series"):
        getattr(orthanc, way)(path)
        sent = pydicom.dcmread(path)
        _assert_same(orthanc.wado(sent, tmp_path / "back"), sent)
    orthanc.forget()
