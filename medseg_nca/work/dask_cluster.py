"""The workers of a Dask cluster, which may be on other machines.

The cluster is started by other means (``dask scheduler``, ``dask worker``). Dask itself gives the
items of a dead worker to other workers. This module adds what Dask does not do: it does not wait
for ever, it passes over workers that cannot see the shared folder, and it gives up an item that
kills its workers.
"""

from __future__ import annotations

import itertools
import logging
import re
import secrets
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medseg_nca.errors import ConfigError, DependencyError, MedsegError
from medseg_nca.io.atomic import write_text
from medseg_nca.job import Job
from medseg_nca.work import dask_worker
from medseg_nca.work.dask_worker import ClusterRun, Reply
from medseg_nca.work.scheduler import (
    KILLED,
    Files,
    Function,
    Outcome,
    R,
    Scheduler,
    SchedulerError,
    T,
    noted,
)

if TYPE_CHECKING:
    from distributed import Client, Future

logger = logging.getLogger(__name__)

_ADDRESS = re.compile(r"(tcp|tls)://[^\s/]+:\d+")
# Number of items that a worker holds: it works on one, and the other waits.
_PER_WORKER = 2
# How often an item is sent at most. If no worker could do it, the last reason becomes its error.
_SENDS = 5
# Seconds: for the scheduler to answer, between two looks at the workers, without any worker.
CONNECT, LOOK, PATIENCE = 10.0, 2.0, 120.0


class DaskCluster(Scheduler):
    """Sends items to a Dask cluster.

    Args:
        address: address of its scheduler, ``tcp://HOST:PORT`` or ``tls://HOST:PORT``.
        folder: folder for notes, which all workers can see.
        patience_s: seconds to wait for an answer of the scheduler, and then for a first worker.

    Raises:
        DependencyError, ConfigError, SchedulerError: as
            :func:`medseg_nca.work.scheduler.open_scheduler` raises them.
    """

    remote = True

    def __init__(self, address: str, folder: Path, patience_s: float = CONNECT) -> None:
        self._address, self._patience = address, patience_s
        self._client = _connect(address, patience_s)
        self._run = ClusterRun(folder.absolute(), secrets.token_hex(4))
        self._unfit: dict[str, str] = {}
        self._keys = itertools.count()
        try:
            write_text(self._run.mark, "")
            self._wait_for_workers()
        except BaseException:
            self.close()
            raise

    def run_each(
        self,
        function: Function[T, R],
        items: Iterable[T],
        files: Files | None = None,
        job: Job | None = None,
    ) -> Iterator[Outcome[R]]:
        """Implement :meth:`Scheduler.run_each`.

        An item fails when a second worker was killed while it worked on the item.
        """
        run = _Run(self, function, iter(enumerate(items)), files)
        try:
            run.fill()
            while run.busy:
                if job is not None:
                    job.check()
                outcomes = run.collect()
                run.fill()
                yield from map(noted, outcomes)
        finally:
            self.cancel(list(run.busy))

    def send(
        self, function: Any, index: int, item: Any, files: list[Path]
    ) -> tuple[Future[Reply], frozenset[str]]:
        """Submit one item, and return the only workers that may do it; none if all may.

        Once a worker is unfit, the fit ones are named: an idle one would take every item again.
        """
        fit = self._fit() if self._unfit else []
        with self._connected():
            future = self._client.submit(
                dask_worker.do, self._run, function, index, item, files,
                key=f"medseg-nca-{self._run.token}-{next(self._keys)}", pure=False,
                workers=fit or None, allow_other_workers=False,
            )  # fmt: skip
        return future, frozenset(fit)

    def wait(self, futures: list[Future[Reply]]) -> list[Future[Reply]]:
        """The futures that are finished, at least one unless it takes long."""
        from distributed import wait

        try:
            with self._connected(but=TimeoutError), self._client.as_current():
                return list(wait(futures, timeout=LOOK, return_when="FIRST_COMPLETED").done)
        except TimeoutError:
            return []

    def reply(self, future: Future[Reply]) -> Reply:
        """Return what a worker sent back.

        Raises:
            TimeoutError: if there is no reply, because the worker was killed.
            Exception: whatever kept all workers from calling the function.
        """
        with self._connected(but=TimeoutError):
            result: Reply = future.result(timeout=LOOK)
        return result

    def cancel(self, futures: list[Future[Reply]]) -> None:
        """Take items back; a worker still finishes the item that it has begun."""
        if futures:
            with suppress(Exception):  # an error of a lost cluster must not hide the first error
                self._client.cancel(futures, force=True)

    def workers(self) -> list[str]:
        """The addresses of the workers that are connected."""
        with self._connected():
            return list(self._client.nthreads())

    def exclude(self, worker: str, reason: str) -> None:
        """Note that a worker cannot be used.

        Raises:
            SchedulerError: if there is no other.
        """
        if worker not in self._unfit:
            self._unfit[worker] = reason
            logger.error("Worker %s is passed over: %s.", worker, reason)
        if not self._fit():
            raise SchedulerError(
                f"No worker of {self._address} can be used: {reason}.",
                hint="Every worker needs this version of medseg-nca and sees the folders of inputs "
                "and results under the same names.",
            )

    def look(self) -> None:
        """Ask all workers whether they can take part.

        Raises:
            SchedulerError: if none can.
        """
        with self._connected():
            found = self._client.run(dask_worker.look, self._run, on_error="return")
        for worker, reason in found.items():
            if isinstance(reason, BaseException):
                reason = f"it cannot load medseg-nca ({type(reason).__name__}: {reason})"
            if reason:
                self.exclude(worker, reason)

    def close(self) -> None:
        """Implement :meth:`Scheduler.close`."""
        with suppress(Exception):  # an error of a lost cluster must not hide the first error
            self._client.close()
        folder = self._run.folder
        for note in [self._run.mark, *folder.glob(f"start-{self._run.token}-*")]:
            with suppress(OSError):
                note.unlink(missing_ok=True)
        with suppress(OSError):
            folder.rmdir()

    def _fit(self) -> list[str]:
        return [worker for worker in self.workers() if worker not in self._unfit]

    def _wait_for_workers(self) -> None:
        try:
            with self._connected(but=TimeoutError):
                self._client.wait_for_workers(1, timeout=self._patience)
        except TimeoutError as error:
            raise SchedulerError(
                f"The Dask scheduler at {self._address} has no workers.",
                hint=f"Start some: dask worker {self._address}",
            ) from error
        self.look()

    @contextmanager
    def _connected(self, *, but: type[Exception] | tuple[()] = ()) -> Iterator[None]:
        """Turn a lost connection into an error that says so."""
        try:
            yield
        except but:
            raise
        except (CancelledError, OSError) as error:
            raise SchedulerError(
                f"The connection to the Dask scheduler at {self._address} was lost ({error}).",
                hint="Start it again and run the same command: what is finished is kept.",
            ) from error


class _Run:
    """The items of one stage that are under way."""

    def __init__(
        self, cluster: DaskCluster, function: Any, numbered: Iterator[Any], files: Files | None
    ) -> None:
        self._cluster = cluster
        self._function = function
        self._numbered = numbered
        self._files = files
        self._deserted: float | None = None
        # By future: number, item, how often it was sent.
        self.busy: dict[Future[Reply], tuple[int, Any, int]] = {}
        self._only: dict[Future[Reply], frozenset[str]] = {}

    def fill(self) -> None:
        """Send as many items as there is room for."""
        room = max(1, len(self._cluster.workers())) * _PER_WORKER
        for index, item in itertools.islice(self._numbered, max(0, room - len(self.busy))):
            self._send(index, item, 1)

    def collect(self) -> list[Outcome[Any]]:
        """Wait for replies; items that could not be done are sent again."""
        finished = self._cluster.wait(list(self.busy))
        if not finished:
            self._expect_workers()
            self._free_the_stranded()
        outcomes = [self._take(future) for future in finished]
        return [outcome for outcome in outcomes if outcome is not None]

    def _take(self, future: Future[Reply]) -> Outcome[Any] | None:
        from distributed import KilledWorker

        index, item, sends = self.busy.pop(future)
        only = self._only.pop(future)
        try:
            reply = self._cluster.reply(future)
        except TimeoutError:  # Dask will do it once more
            self.busy[future] = (index, item, sends)
            self._only[future] = only
            self._expect_workers()
            return None
        except KilledWorker:  # it may only have waited at workers that other items killed
            return self._send_again(index, item, sends, KILLED)
        except MedsegError:
            raise
        except Exception as error:  # no error of the function: the worker could not even call it
            self._cluster.look()
            reason = f"a worker could not begin ({type(error).__name__}: {error})"
            return self._send_again(index, item, sends, reason)
        if reply.outcome is not None:
            return reply.outcome
        unfit = reply.unfit or "it gives no reason"
        try:
            self._cluster.exclude(reply.worker, unfit)
        except SchedulerError:
            if reply.output is not None:
                raise reply.output from None
            raise
        return self._send_again(index, item, sends, unfit)

    def _send_again(self, index: int, item: Any, sends: int, reason: str) -> Outcome[Any] | None:
        if sends >= _SENDS:
            return Outcome(index, error=reason)
        self._send(index, item, sends + 1)
        return None

    def _send(self, index: int, item: Any, sends: int) -> None:
        files = [path for path in self._files(item) if path.exists()] if self._files else []
        future, only = self._cluster.send(self._function, index, item, files)
        self.busy[future] = (index, item, sends)
        self._only[future] = only

    def _free_the_stranded(self) -> None:
        """Send items again whose only workers are gone; Dask would wait for these."""
        here = set(self._cluster.workers())
        stranded = [f for f in self.busy if self._only[f] and not self._only[f] & here]
        self._cluster.cancel(stranded)
        for future in stranded:
            del self._only[future]
            self._send(*self.busy.pop(future))

    def _expect_workers(self) -> None:
        """Wait for the workers of a cluster that has none, but only for a limited time."""
        if self._cluster.workers():
            self._deserted = None
        elif self._deserted is None:
            self._deserted = time.monotonic()
            logger.warning("The Dask cluster has no workers left; waiting for new ones.")
        elif time.monotonic() - self._deserted > PATIENCE:
            raise SchedulerError(
                "The Dask cluster has no workers left.",
                hint="Start workers and run the same command: what is finished is kept.",
            )


def _connect(address: str, patience_s: float) -> Client:
    if not _ADDRESS.fullmatch(address):
        raise ConfigError(
            f"--scheduler {address!r}: is no address of a Dask scheduler.",
            hint="It has the form tcp://HOST:PORT; `dask scheduler` prints it.",
        )
    try:
        from distributed import Client
    except ImportError as error:
        raise DependencyError(
            "--scheduler needs the package 'distributed', which is not installed.",
            hint="pip install 'medseg-nca[cluster]', or use --workers on this machine.",
        ) from error
    try:
        return Client(address, timeout=patience_s, set_as_default=False, name="medseg-nca")
    except (OSError, ValueError) as error:
        raise SchedulerError(
            f"The Dask scheduler at {address} does not answer ({error}).",
            hint="Start one with `dask scheduler`, or correct --scheduler.",
        ) from error
