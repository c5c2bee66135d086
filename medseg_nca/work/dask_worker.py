"""Work in a worker of a Dask cluster, which shares only a folder with the calling process."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medseg_nca import __version__
from medseg_nca.errors import OutputError
from medseg_nca.job import Job
from medseg_nca.work.scheduler import KILLED, Outcome, attempt, use_threads

# How often an item is started before it is given up.
STARTS = 2
# A worker does one item at a time, however many threads it has: the item uses all of them, and the
# memory of several items at once might not suffice.
_busy = threading.Lock()


@dataclass(frozen=True)
class ClusterRun:
    """What all items of a run have in common.

    Attributes:
        folder: folder of the notes, which all workers can see.
        token: identifies the run; a file of that name lies in the folder.
        version: version of this package in the process that started the run.
    """

    folder: Path
    token: str
    version: str = __version__

    @property
    def mark(self) -> Path:
        """Return the file by which a worker knows that it sees the right folder."""
        return self.folder / f"run-{self.token}"

    def note(self, index: int) -> Path:
        """Return the file in which the starts of an item are counted."""
        return self.folder / f"start-{self.token}-{index}"


@dataclass(frozen=True)
class Reply:
    """What a worker sends back.

    Attributes:
        worker: address of the worker.
        outcome: outcome of the item; None if the worker is not fit to do it.
        unfit: why the worker is not fit; None if it is.
        output: the error if the worker cannot write results.
    """

    worker: str
    outcome: Outcome[Any] | None = None
    unfit: str | None = None
    output: OutputError | None = None


def look(run: ClusterRun) -> str | None:
    """Return why this worker cannot take part; None if it can."""
    host = socket.gethostname()
    if run.version != __version__:
        return f"{host} has medseg-nca {__version__}, but this is {run.version}"
    if not run.mark.is_file():
        return f"{host} does not see the folder {run.folder}"
    return None


def do(
    run: ClusterRun,
    function: Callable[[Any, Job], Any],
    index: int,
    item: Any,
    files: Sequence[Path],
) -> Reply:
    """Do one item.

    Args:
        run: what all items of the run have in common.
        function: the function, see :meth:`medseg_nca.work.scheduler.Scheduler.run_each`.
        index: number of the item.
        item: the item.
        files: files that the item needs and that exist for the calling process.
    """
    from distributed import get_worker

    worker = get_worker()
    with _busy:
        unfit = look(run) or _missing(files)
        if unfit:
            return Reply(worker.address, unfit=unfit)
        try:
            if _count_start(run.note(index)) > STARTS:
                # The note stays: this reply may be lost, and the item sent again.
                return Reply(worker.address, Outcome(index, error=KILLED))
            use_threads(worker.state.nthreads)
            outcome = attempt(function, index, item)
        except OutputError as error:
            _forget(run.note(index))
            text = f"{socket.gethostname()} cannot write: {error}"
            return Reply(worker.address, unfit=text, output=error)
        _forget(run.note(index))
        return Reply(worker.address, outcome)


def _missing(files: Sequence[Path]) -> str | None:
    absent = next((path for path in files if not path.exists()), None)
    return None if absent is None else f"{socket.gethostname()} does not see the file {absent}"


def _forget(note: Path) -> None:
    with suppress(OSError):
        note.unlink(missing_ok=True)


def _count_start(note: Path) -> int:
    """Count a start of an item, in a file that stays when the item kills the worker."""
    try:
        with note.open("a+b") as file:
            file.write(b".")
            file.flush()
            os.fsync(file.fileno())
            return file.tell()
    except OSError as error:
        raise OutputError(f"{note}: cannot be written ({error.strerror}).") from error
