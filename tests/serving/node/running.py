"""A real node in a process of its own, and peers that send to it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydicom.filereader import read_file_meta_info

from medseg_nca.errors import ConfigError
from medseg_nca.serving.node.listing import listing
from tests.io.dicom.build import AXIAL, classic, pixels, write
from tests.serving.node.receiving import AET, CALLER, association, dcmtk
from tests.serving.running import PATIENCE, STARTED

ROOT = Path(__file__).parents[3]
LISTENS = re.compile(r" listens on 127\.0\.0\.1 port (\d+).*http://127\.0\.0\.1:(\d+)/metrics")


@dataclass
class Node:
    """A node that was started by the command.

    Attributes:
        process: of the node.
        folder: that it was started in.
        port: of DICOM; 0 until :meth:`listening` was called.
        figures: port of its metrics.
    """

    process: subprocess.Popen[str]
    folder: Path
    port: int = 0
    figures: int = 0

    @property
    def spool(self) -> Path:
        return self.folder / "node"

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    def listening(self) -> Node:
        """Wait until it listens."""
        said, found = self.folder / "stdout", None
        end = time.monotonic() + PATIENCE
        while found is None:
            assert self.process.poll() is None, self.log
            assert time.monotonic() < end, self.log
            found = LISTENS.search(said.read_text())
            time.sleep(0.02)
        self.port, self.figures = int(found[1]), int(found[2])
        return self

    def metrics(self) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.figures}/metrics") as answer:
            return str(answer.read().decode())

    def list(self, what: str = "jobs") -> list[dict[str, Any]]:
        """What ``dicom-node list`` shows: "series", "jobs", "deliveries" or "dead_letters"."""
        try:
            return listing(self.spool)[what]
        except ConfigError:  # it has only begun
            return []

    def ended(self, count: int) -> list[dict[str, Any]]:
        """Wait until so many jobs have ended, and are all that there are."""
        self.until(lambda: [job["state"] for job in self.list()
                            if job["state"] in ("done", "failed", "cancelled")],
                   lambda ended: len(ended) >= count == len(self.list()))  # fmt: skip
        return self.list()

    def delivered(self, count: int = 1, state: str = "stored") -> list[dict[str, Any]]:
        """Wait until there are so many deliveries, all of them in this state."""
        self.until(lambda: [one["state"] for one in self.list("deliveries")],
                   lambda states: states == [state] * count)  # fmt: skip
        return self.list("deliveries")

    def until(
        self, what: Callable[[], Any], true: Callable[[Any], Any] = bool, seconds: float = PATIENCE
    ) -> None:
        """Wait until something is so, while the node is at work."""
        end = time.monotonic() + seconds
        while not true(found := what()):
            assert self.process.poll() is None, self.log
            assert time.monotonic() < end, f"{found!r}\n{self.log}\n{self.list()}"
            time.sleep(0.1)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """End it as an init system does."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE)


def launch(
    folder: Path, *options: object, env: Mapping[str, str] | None = None,
    within: Sequence[str] = (),
) -> Node:  # fmt: skip
    """Start a node whose state lies in ``folder/node``, and do not wait for it.

    Args:
        folder: to start it in; the model lies in ``folder/tiny`` unless a rule names another.
        *options: of the command. They may give a rule, an AE title or a port of their own.
        env: variables beside those of this process.
        within: a command that runs the command.
    """
    folder.mkdir(parents=True, exist_ok=True)
    given = [str(option) for option in options]
    usual = {
        "--aet": AET, "--port": "0", "--spool": str(folder / "node"), "--device": "cpu",
        "--allow": f"{CALLER}@127.0.0.0/8,ORTHANC@127.0.0.1", "--reserve-gb": "0",
        "--metrics-port": "0", "--settle": "1", "--route": f"Modality=MR -> tiny={folder / 'tiny'}",
    }  # fmt: skip
    for name, value in usual.items():
        given += [] if name in given else [name, value]
    command = [*within, sys.executable, "-m", "medseg_nca", "dicom-node", *given]
    with (folder / "log").open("a") as log, (folder / "stdout").open("w") as said:
        process = subprocess.Popen(
            command, cwd=folder, stdout=said, stderr=log, text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT), **(env or {})},
        )  # fmt: skip
    STARTED.append(process)
    return Node(process, folder)


def start(folder: Path, *options: object, **how: Any) -> Node:
    """Start a node and wait until it listens; see :func:`launch`."""
    return launch(folder, *options, **how).listening()


def command(name: str, node: Node, *options: object) -> str:
    """Run ``dicom-node list`` or ``retry`` beside the node; returns what it says."""
    done = subprocess.run(
        [sys.executable, "-m", "medseg_nca", "dicom-node", name, *map(str, options),
         "--spool", str(node.spool)],
        capture_output=True, text=True, timeout=PATIENCE, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def series(
    folder: Path, name: str, planes: int = 8, affine: Any = AXIAL, size: tuple[int, int] = (20, 18),
    **tags: Any,
) -> list[Path]:  # fmt: skip
    """An MR series that no other test has, unless the name is the same."""
    array = pixels((planes, *size), seed=len(name))
    datasets = classic(array, affine, **{"modality": "MR", "series": name, "study": name, **tags})
    return write(folder / name, datasets)


def storescu(node: Node, *paths: Path, options: Sequence[object] = ()) -> None:
    """Send files by dcmtk's program, which has to be content with every answer."""
    said = dcmtk("storescu", node.port, *options, "--", *paths)
    assert said.endswith("exit 0"), said
    assert said.count("Status: Success") + said.count("Success)") >= len(paths), said


def store(port: int, paths: Sequence[Path]) -> dict[Path, int]:
    """Send files over one association of pynetdicom; the statuses of those that were answered."""
    answers: dict[Path, int] = {}
    classes = {str(read_file_meta_info(path).MediaStorageSOPClassUID) for path in paths}
    with association(port, *sorted(classes)) as peer:
        for path in paths:
            if not peer.is_established:
                break
            answer = peer.send_c_store(path)
            if "Status" not in answer:
                break
            answers[path] = int(answer.Status)
    return answers
