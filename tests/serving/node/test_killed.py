"""kill -9 of a node at random moments, while series arrive interleaved: one result of each."""

from __future__ import annotations

import os
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom import dcmread

from tests.orthanc import Orthanc
from tests.serving.node.archives import results, series_of
from tests.serving.node.running import Node, launch, series, start, store
from tests.tracking.tiny import save_tiny

pytestmark = [pytest.mark.peer, pytest.mark.slow]

# MEDSEG_NODE_KILLS=50 kills it that often, which takes minutes: a start takes seconds.
KILLS = int(os.environ.get("MEDSEG_NODE_KILLS", "10"))
SERIES, SLICES, ASSOCIATIONS = 20, 6, 3
SEED = 20260901
MOMENTS = ("receives", "computes", "starts", "receives", "computes")
# Seconds of silence; a sender that goes on after a kill has to be there before.
SETTLE = 2.0


class Sender:
    """Sends series over several associations at once, and again what was not acknowledged.

    Attributes:
        open: files that were not acknowledged, by series.
    """

    def __init__(self, folder: Path) -> None:
        names = [f"s{number}" for number in range(SERIES)]
        self._files = {name: series(folder, name, SLICES, size=(14, 12)) for name in names}
        self._waits = list(names)
        self.open: dict[str, list[Path]] = {}

    @property
    def series_uids(self) -> set[str]:
        return {str(dcmread(paths[0]).SeriesInstanceUID) for paths in self._files.values()}

    def add(self, count: int) -> None:
        """Send some series more."""
        for name in self._waits[:count]:
            self.open[name] = list(self._files[name])
        del self._waits[:count]

    def send(self, port: int) -> list[threading.Thread]:
        """Begin to send what is open, a slice of each series in turns."""
        turns = [path for row in self._turns() for path in row]
        threads = [
            threading.Thread(target=self._send, args=(port, turns[number::ASSOCIATIONS]))
            for number in range(ASSOCIATIONS)
        ]
        for thread in threads:
            thread.start()
        return threads

    def _turns(self) -> Iterator[list[Path]]:
        for place in range(SLICES):
            yield [paths[place] for paths in self.open.values() if place < len(paths)]

    def _send(self, port: int, paths: list[Path]) -> None:
        try:
            answers = store(port, paths)
        except (OSError, AttributeError):  # killed before there was a connection
            return
        assert set(answers.values()) <= {0}
        for path in answers:
            self.open[path.parent.name].remove(path)


def killed(
    folder: Path, sender: Sender, options: tuple[str, ...], moments: random.Random, moment: str
) -> None:
    """Start a node, and kill it while it starts, receives, or computes and delivers."""
    node = launch(folder, *options)
    if moment == "starts":
        time.sleep(moments.uniform(0, 2.5))
        node.kill()
        return
    threads = sender.send(node.listening().port)
    if moment == "computes":
        for thread in threads:
            thread.join()
        time.sleep(SETTLE)
        _wait_for_work(node, time.monotonic() + 30)
        time.sleep(moments.uniform(0, 1.5))
    else:
        time.sleep(moments.uniform(0, 0.5))
    node.kill()
    for thread in threads:
        thread.join()


def _wait_for_work(node: Node, end: float) -> None:
    while time.monotonic() < end:
        if any(job["state"] == "running" for job in node.list()):
            return
        time.sleep(0.02)


def test_every_series_ends_with_one_result(tmp_path: Path) -> None:
    save_tiny(tmp_path / "tiny", seed=10)
    orthanc = Orthanc(tmp_path / "orthanc").start()
    options = ("--send-to", f"ORTHANC@127.0.0.1:{orthanc.dicom}", "--settle", str(SETTLE),
               "--queue", "100")  # fmt: skip
    moments, sender = random.Random(SEED), Sender(tmp_path / "sent")
    try:
        for number in range(KILLS):
            sender.add(SERIES * (number + 1) // KILLS - SERIES * number // KILLS)
            killed(tmp_path, sender, options, moments, MOMENTS[number % len(MOMENTS)])
        node = start(tmp_path, *options)
        for thread in sender.send(node.port):
            thread.join()
        assert not any(sender.open.values())
        node.ended(SERIES)
        assert Counter(job["state"] for job in node.list()) == {"done": SERIES}
        node.delivered(SERIES)
        assert node.stop() == 0, node.log
        found = Counter(series_of(one) for one in results(orthanc))
        assert found == dict.fromkeys(sender.series_uids, 1)
        assert not list((node.spool / "incoming").iterdir())
        assert not list((node.spool / "series" / ".arriving").iterdir())
    finally:
        orthanc.stop()
