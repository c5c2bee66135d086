"""A patient's name, id and UIDs stay in the spool, the jobs and the results of a node."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from pydicom import dcmread

from medseg_nca.io.dicom.quiet import quiet
from tests.io.dicom.build import uid
from tests.serving import canary
from tests.serving.node.archives import Archive, archive
from tests.serving.node.receiving import association
from tests.serving.node.running import Node, command, start, store
from tests.tracking.tiny import save_tiny

pytestmark = pytest.mark.slow
# Where images and results of patients lie; their names are looked at all the same.
ALLOWED = (
    r"node/(series/.*|jobs/[\w-]+/(input|attempt-\d|output|notice)/.*|incoming/.*"
    r"|dead-letter/[\w-]+/.*\.dcm)"
)
OPTIONS = ("--formats", "dicom-seg,sr", "--report-failures", "sr")


def uids(paths: list[Path]) -> set[bytes]:
    """Every UID of files that is of a patient's images."""
    found = (dcmread(path, stop_before_pixels=True) for path in paths)
    return {
        str(one[keyword].value).encode()
        for one in found
        for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID",
                        "FrameOfReferenceUID")
    }  # fmt: skip


def leaks(folder: Path, secrets: set[bytes]) -> dict[str, object]:
    """Traces of the patient in what the node wrote, and in the names of all files."""
    found: dict[str, object] = dict(canary.traces_in(folder, but=ALLOWED))
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        texts = [name.encode()]
        if path.is_file() and not re.fullmatch(ALLOWED, name):
            texts.append(path.read_bytes())
        told = canary.traces(name.encode())
        told |= {one.decode() for one in secrets if any(one in text for text in texts)}
        if told:
            found[name] = told
    return found


def refused(folder: Path) -> list[Path]:
    """Series that a rule does not take, or that cannot be computed."""
    ct = canary.series(folder / "ct", name="ct", modality="CT")
    gap = canary.series(folder / "gap", name="gap")
    damaged = canary.series(folder / "damaged", name="damaged")
    for path in damaged:
        path.write_bytes(path.read_bytes()[:-150])
    return [*ct, *gap[:3], *gap[5:], *damaged]


def test_nothing_of_a_patient_is_anywhere_else(tmp_path: Path) -> None:
    canary.control()
    save_tiny(tmp_path / "server" / "tiny", seed=10)
    (tmp_path / "server" / "tmp").mkdir()
    env = {"TMPDIR": str(tmp_path / "server" / "tmp")}
    good, late = canary.series(tmp_path / "good"), canary.series(tmp_path / "late", name="late")
    bad = refused(tmp_path)
    secrets = uids([*good, *late, *bad])
    with archive("refuses") as refuses, archive("busy", "takes") as takes:
        where = ("--send-to", refuses.address, "--send-to", takes.address, *OPTIONS)
        node = start(tmp_path / "server", *where, env=env)
        for paths in (good, bad):
            assert set(store(node.port, paths).values()) <= {0}
        strange(node, good[0])
        node.until(lambda: decided(node), lambda count: count == 4)
        node.until(lambda: node.list("dead_letters"))
        node.until(lambda: takes.objects)
        told = [node.metrics(), command("list", node)]
        store(node.port, late)
        node.kill()
        node = start(tmp_path / "server", *where, env=env)
        node.until(lambda: decided(node), lambda count: count == 5)
        command("retry", node, "--all")
        told.append(node.metrics())
        assert node.stop() == 0, node.log
    for text in told:
        assert not canary.traces(text.encode())
    assert not any(secret in text.encode() for secret in secrets for text in told[::2])
    assert leaks(tmp_path / "server", secrets) == {}
    assert not list((tmp_path / "server" / "tmp").iterdir())
    lines = (node.spool / "audit.log").read_text().splitlines()
    assert {json.loads(line)["action"] for line in lines} >= {"association", "series", "job"}
    check_control(tmp_path / "server", takes, good)


def check_control(folder: Path, takes: Archive, good: list[Path]) -> None:
    """The search would find them: the images are there, and the results name the patient."""
    held = canary.traces_in(folder)
    assert any(path.startswith("node/series/") for path in held)
    assert any("/output/" in path for path in held)
    assert str(takes.objects[0].PatientID) == canary.TAGS["PatientID"]
    assert str(uid("s", "a")).encode() in uids(good)


def decided(node: Node) -> int:
    """How many series are decided on, and all jobs of them have ended."""
    if any(job["state"] in ("queued", "running") for job in node.list()):
        return 0
    return sum(one["state"] in ("submitted", "not taken") for one in node.list("series"))


def strange(node: Node, path: Path) -> None:
    """A caller that is refused, and an object that names the patient where a UID belongs."""
    with association(node.port, caller="STRANGER") as peer:
        assert not peer.is_established
    with quiet(), association(node.port) as peer:
        dataset = dcmread(path)
        dataset.SeriesInstanceUID = canary.TAGS["PatientName"]
        assert peer.send_c_store(dataset).Status == 0xC000
