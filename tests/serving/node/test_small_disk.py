"""A disk that is full while series arrive: senders are told, and nothing acknowledged is lost."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom import dcmread

from tests.serving.node.archives import Archive, archive
from tests.serving.node.disks import small_disk_at
from tests.serving.node.running import Node, series, start, store
from tests.tracking.tiny import save_tiny

pytestmark = pytest.mark.slow
# Out of resources (PS3.4 B.2.3).
FULL = 0xA700
MEGABYTE = 10**6


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder whose ``node`` is a disk of its own, of 12 MB."""
    with small_disk_at(tmp_path / "node", "size=12m,mode=700"):
        yield tmp_path


def fill(node: Node, free: int) -> Path:
    """Leave so many bytes of the disk."""
    ballast = node.spool / "ballast"
    ballast.write_bytes(bytes(shutil.disk_usage(node.spool).free - free))
    return ballast


def kept(node: Node) -> dict[str, bytes]:
    """The pixels that the spool holds, by instance."""
    files = (dcmread(path) for path in node.spool.glob("series/*/*.dcm"))
    return {str(one.SOPInstanceUID): one.PixelData for one in files}


def lost(node: Node, paths: list[Path]) -> list[Path]:
    """Which files the spool does not hold as they were sent."""
    there, sent = kept(node), {path: dcmread(path) for path in paths}
    return [path for path, one in sent.items() if there.get(one.SOPInstanceUID) != one.PixelData]


def test_a_sender_is_told_and_the_rest_arrives_when_there_is_room(folder: Path) -> None:
    save_tiny(folder / "tiny", seed=10)
    paths = series(folder / "sent", "large", 100, size=(128, 128))
    with archive() as storage:
        node = start(folder, "--send-to", storage.address)
        try:
            node = run_through(node, paths, storage)
            assert node.stop() == 0, node.log
        finally:
            node.kill()


def run_through(node: Node, paths: list[Path], storage: Archive) -> Node:
    """Fill the disk, kill the node there, and make room."""
    ballast = fill(node, 2 * MEGABYTE)
    answers = store(node.port, paths)
    assert list(answers) == paths  # every one was answered, in the same association
    assert set(answers.values()) == {0, FULL}
    taken = [path for path, status in answers.items() if status == 0]
    assert lost(node, taken) == []
    node.kill()  # on a disk that is full it starts again, if only to say so
    node = start(node.folder, "--send-to", storage.address, "--reserve-gb", "0.0005")
    assert lost(node, taken) == []
    assert set(store(node.port, paths[-5:]).values()) == {FULL}
    assert "medseg_nca_node_receives 0" in node.metrics()
    ballast.unlink()
    missing = [path for path in paths if answers[path] != 0]
    assert set(store(node.port, missing).values()) == {0}
    assert lost(node, paths) == []
    node.until(lambda: any(frames(one) > 90 for one in storage.objects))
    assert "medseg_nca_node_receives 1" in node.metrics()
    assert "Traceback" not in node.log
    return node


def frames(seg: object) -> int:
    """How many slices a SEG refers to."""
    return len(seg.ReferencedSeriesSequence[0].ReferencedInstanceSequence)  # type: ignore[attr-defined]
