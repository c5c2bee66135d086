"""Series go to a node by real peers, and their results lie in a real Orthanc, once."""

from __future__ import annotations

import json
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset, dcmread

from medseg_nca.io.dicom.check.run import dciodvfy_path
from medseg_nca.io.read import read_label
from tests.io.dicom.build import AXIAL, OBLIQUE, uid
from tests.io.writers import results as voxels
from tests.io.writers.dcmqi import segments
from tests.orthanc import Orthanc
from tests.serving.certificates import write_pair
from tests.serving.node import archives
from tests.serving.node.receiving import AET, dcmtk
from tests.serving.node.running import Node, series, start, store, storescu
from tests.tracking.tiny import save_tiny

pytestmark = [pytest.mark.peer, pytest.mark.slow]
AFFINES = {"axial": AXIAL, "oblique": OBLIQUE}


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    archive = Orthanc(tmp_path_factory.mktemp("orthanc")).start()
    try:
        yield archive
    finally:
        archive.stop()


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory, orthanc: Orthanc) -> Iterator[Node]:
    """One that sends a SEG and an SR of each series to that Orthanc."""
    folder = tmp_path_factory.mktemp("node")
    save_tiny(folder / "tiny", seed=10)  # it finds both of its labels in these series
    node = start(folder, "--send-to", of(orthanc), "--formats", "dicom-seg,sr")
    try:
        yield node
    finally:
        assert node.stop() == 0, node.log


def of(orthanc: Orthanc) -> str:
    """The address of an Orthanc, as ``--send-to`` takes it."""
    return f"ORTHANC@127.0.0.1:{orthanc.dicom}"


def found(orthanc: Orthanc, modality: str, study: str) -> list[bytes]:
    """The objects of a modality in a study of :func:`series`."""
    files = orthanc.files(modality)
    wanted = str(uid(study)).encode()
    return [file for file in files if wanted in file]


def results(node: Node, orthanc: Orthanc, study: str, each: int = 1) -> tuple[bytes, bytes]:
    """Wait for the SEG and the SR of a study; nothing may come twice."""

    def both() -> list[int]:
        return [len(found(orthanc, modality, study)) for modality in ("SEG", "SR")]

    node.until(both, lambda counts: min(counts) >= each)
    assert both() == [each, each]
    return found(orthanc, "SEG", study)[0], found(orthanc, "SR", study)[0]


def job_of(node: Node, seg: Dataset) -> Path:
    """Folder of the results that a SEG is among."""
    (path,) = (path for path in node.spool.glob("jobs/*/output/*.dcm")
               if dcmread(path).SOPInstanceUID == seg.SOPInstanceUID)  # fmt: skip
    return path.parent


@pytest.mark.parametrize("kind", AFFINES)
def test_a_series_that_storescu_sends_comes_back_segmented(
    orthanc: Orthanc, node: Node, tmp_path: Path, kind: str
) -> None:
    paths = series(tmp_path, kind, 9, AFFINES[kind], size=(26, 22))
    storescu(node, *paths)
    program = dciodvfy_path()
    for name, content in zip(("SEG", "SR"), results(node, orthanc, kind), strict=True):
        path = tmp_path / f"{name}.dcm"
        path.write_bytes(content)
        if program is not None:
            said = subprocess.run([program, path], capture_output=True, text=True, timeout=60)
            assert "Error" not in said.stdout + said.stderr, said
    seg, first = dcmread(tmp_path / "SEG.dcm"), dcmread(paths[0])
    assert archives.series_of(seg) == first.SeriesInstanceUID
    assert (seg.PatientID, seg.PatientName) == (first.PatientID, first.PatientName)
    (label_map,) = job_of(node, seg).glob("*.nii.gz")
    ours, theirs = read_label(label_map), segments(tmp_path / "SEG.dcm", tmp_path / "itk")
    assert len(seg.SegmentSequence) == len(theirs) == 2
    for number, volume in theirs.items():
        wanted = voxels.in_space(ours, ours.array[0] == number)
        got = voxels.in_space(volume, volume.array[0] > 0)
        assert len(wanted) > 0
        np.testing.assert_allclose(got, wanted, atol=5e-3)  # Dice 1.0


def test_a_series_that_orthanc_pushes_comes_back_to_it(
    orthanc: Orthanc, node: Node, tmp_path: Path
) -> None:
    paths = series(tmp_path, "pushed")
    orthanc.put(paths)
    modality = json.dumps([AET, "127.0.0.1", node.port]).encode()
    place = urllib.request.Request(orthanc.url("/modalities/medseg"), modality, method="PUT")
    urllib.request.urlopen(place, timeout=60).close()
    orthanc.ask("/modalities/medseg/echo", b"{}")
    wanted = uid("pushed", "pushed")
    (images,) = (one for one in orthanc.series("MR")
                 if one["MainDicomTags"]["SeriesInstanceUID"] == wanted)  # fmt: skip
    told = json.loads(orthanc.ask("/modalities/medseg/store", images["ID"].encode()))
    assert (told["InstancesCount"], told["FailedInstancesCount"]) == (len(paths), 0)
    results(node, orthanc, "pushed")
    # The same once more, and the results, which the archive may route back: nothing new.
    study = images["ParentStudy"].encode()
    told = json.loads(orthanc.ask("/modalities/medseg/store", study))
    assert told["FailedInstancesCount"] == 0
    node.until(lambda: node.list("series"), lambda all: all and all_decided(all))
    results(node, orthanc, "pushed")


def all_decided(listed: list[dict[str, Any]]) -> bool:
    return all(one["state"] in ("submitted", "not taken") for one in listed)


def test_results_wait_for_an_orthanc_that_is_down(
    orthanc: Orthanc, node: Node, tmp_path: Path
) -> None:
    before = len(node.list("deliveries"))
    orthanc.stop()
    try:
        storescu(node, *series(tmp_path, "down"))
        node.until(lambda: [one for one in node.list("deliveries")
                            if one["state"] == "waiting" and one["attempts"] > 1])  # fmt: skip
        (waiting,) = (one for one in node.list("deliveries") if one["state"] == "waiting")
        assert "cannot be reached" in waiting["reason"]
    finally:
        orthanc.start()
    node.delivered(before + 1)
    results(node, orthanc, "down")


def test_dcmtk_with_tls_is_let_in_and_others_are_not(orthanc: Orthanc, tmp_path: Path) -> None:
    ours, theirs = write_pair(tmp_path / "node"), write_pair(tmp_path / "scanner")
    stranger = write_pair(tmp_path / "stranger")
    save_tiny(tmp_path / "tiny", seed=10)
    paths = series(tmp_path, "secret")
    node = start(tmp_path, "--tls-cert", ours[0], "--tls-key", ours[1], "--tls-ca", theirs[0])
    trust = ("+cf", ours[0])
    try:
        storescu(node, *paths, options=("+tls", theirs[1], theirs[0], *trust))
        (job,) = node.ended(1)
        assert job["state"] == "done"
        for how in ((), ("+tls", stranger[1], stranger[0], *trust), ("+tla", *trust)):
            assert "exit 0" not in dcmtk("storescu", node.port, *how, "--", paths[0])
        assert store(node.port, paths[:1]) == {}
        storescu(node, *paths, options=("+tls", theirs[1], theirs[0], *trust))
    finally:
        assert node.stop() == 0, node.log
