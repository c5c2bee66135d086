"""The contract between long work and the code that waits for it: progress and cancelling.

The code that starts the work makes a :class:`Job` and hands it down. The work reports its progress
to the job, and asks the job before every case, tile, batch of steps and pass whether to go on. A
cancelled job ends the work with :class:`medseg_nca.errors.Interrupted`: finished results are kept,
and no file is half-written. Compiled code cannot ask: it is told (:meth:`Job.when_cancelled`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from medseg_nca.errors import Interrupted

# The name of the phase within one case, while another phase counts the cases.
ONE_CASE = "this case"


@dataclass(frozen=True)
class Progress:
    """How far one phase of a piece of work is.

    Attributes:
        phase: what is being done, for example "predicting".
        done: amount that is done; it never falls within a phase, and ends at ``total``.
        total: amount of the whole phase, the same throughout the phase; None if it is not known.
        unit: unit of ``done`` and ``total``; "" if only their ratio has a meaning.
        facts: further numbers by name, for example the loss of a training, or how many cases
            failed.
    """

    phase: str
    done: int
    total: int | None
    unit: str = ""
    facts: Mapping[str, float] = field(default_factory=dict)


Listener = Callable[[Progress], None]


def in_one_line(progress: Progress) -> None:
    """Print how far a phase is over the line before; a listener for notebooks and scripts.

    Facts that are 0, such as the number of cases that failed, are left out.
    """
    total = "" if progress.total is None else f" of {progress.total}"
    facts = "".join(f", {name} {value:.4g}" for name, value in progress.facts.items() if value)
    text = f"{progress.phase} {progress.done}{total} {progress.unit}".rstrip() + facts
    print(f"\r{text[:100]:<100}", end="", flush=True)


class Job:
    """One piece of long work: how far it is, and whether it is still wanted.

    :meth:`cancel`, :attr:`cancelled` and :attr:`reason` may be used from any thread. Everything
    else belongs to the thread that does the work.

    Args:
        listener: called with every report, in the thread that does the work, from a few times a
            second to once in some seconds. An error that it raises ends the work. None if nobody
            wants reports.

    Example:
        >>> job = Job(lambda progress: print(progress.phase, progress.done, progress.total))
        >>> job.report("reading", 1, 2)
        reading 1 2
        >>> job.cancel("The client has left.")
        >>> job.check()
        Traceback (most recent call last):
        medseg_nca.errors.Interrupted: The client has left. What is finished is kept.
    """

    def __init__(self, listener: Listener | None = None) -> None:
        self._listener = listener
        self._token = _Token()
        self._index, self._parts = 0, 1

    @property
    def cancelled(self) -> bool:
        """Whether the work is no longer wanted."""
        return self._token.event.is_set()

    @property
    def reason(self) -> str | None:
        """Why the work is no longer wanted, in one sentence; None while it is wanted."""
        return self._token.reason if self.cancelled else None

    def cancel(self, reason: str = "The work was cancelled.") -> None:
        """Ask the work to end; it ends at its next :meth:`check`.

        Args:
            reason: one sentence for whoever reads the error.
        """
        self._token.reason = reason
        self._token.event.set()
        with self._token.lock:
            for act in tuple(self._token.acts):
                act()

    @contextmanager
    def when_cancelled(self, act: Callable[[], None]) -> Iterator[None]:
        """Call ``act`` once the job is cancelled, if that happens before the block ends.

        It is called in the thread that cancels, or at the start of the block if the job is
        cancelled already; never after the block has ended.

        Args:
            act: makes the work of the block end early; it must return quickly and raise nothing.
        """
        token = self._token
        with token.lock:
            token.acts.append(act)
            if token.event.is_set():
                act()
        try:
            yield
        finally:
            with token.lock:
                token.acts.remove(act)

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Make this job the one of :meth:`current`, in this thread, until the block ends."""
        before = _current.set(self)
        try:
            yield
        finally:
            _current.reset(before)

    @staticmethod
    def current() -> Job | None:
        """The job that this thread works for, for code so deep that no job is handed down to it."""
        return _current.get()

    def check(self) -> None:
        """Raise an error if the work is no longer wanted.

        Raises:
            Interrupted: if it was cancelled.
        """
        if self._token.event.is_set():
            raise Interrupted(self._token.reason, hint="What is finished is kept.")

    def report(
        self,
        phase: str,
        done: int,
        total: int | None,
        *,
        unit: str = "",
        facts: Mapping[str, float] | None = None,
    ) -> None:
        """Tell the listener how far a phase is, unless the work is no longer wanted.

        Args:
            phase: what is being done, for example "predicting".
            done: amount that is done.
            total: amount of the whole phase; None if it is not known.
            unit: unit of ``done`` and ``total``; "" if only their ratio has a meaning.
            facts: further numbers by name.

        Raises:
            Interrupted: if the job was cancelled; the listener is then not called.
        """
        self.check()
        if self._listener is None:
            return
        if total is not None:
            done, total = self._index * total + done, self._parts * total
        self._listener(Progress(phase, done, total, unit, facts or {}))

    def part(self, index: int, parts: int) -> Job:
        """Return a job for one of several equal parts; cancelling this job cancels the part.

        Args:
            index: number of the part, from 0.
            parts: how many parts there are. The ``total`` that the listener gets is ``parts`` times
                the ``total`` that a part reports.
        """
        part = Job(self._listener)
        part._token = self._token
        part._index, part._parts = self._index * parts + index, self._parts * parts
        return part

    def silent(self) -> Job:
        """Return a job without a listener; cancelling this job cancels it too."""
        piece = Job()
        piece._token = self._token
        return piece


@dataclass
class _Token:
    """The state that a job shares with its parts: whether it was cancelled, and why."""

    event: threading.Event = field(default_factory=threading.Event)
    reason: str = ""
    # May be taken again by a signal handler that cancels in the thread that holds it.
    lock: threading.RLock = field(default_factory=threading.RLock)
    acts: list[Callable[[], None]] = field(default_factory=list)


_current: ContextVar[Job | None] = ContextVar("job", default=None)


class Meter:
    """Adds up the amounts that the pieces of one phase have done, and reports the sum to a job.

    Args:
        job: gets a report after every piece.
        phase: what is being done, for example "predicting".
        total: amount of the whole phase.

    Attributes:
        facts: further numbers by name, sent with every report.
    """

    def __init__(self, job: Job, phase: str, total: int) -> None:
        self._job, self._phase, self._total = job, phase, max(total, 1)
        self._done = 0
        self.facts: Mapping[str, float] = {}

    def advance(self, amount: int) -> None:
        """Add ``amount`` to what is done, and report it.

        Raises:
            Interrupted: if the job was cancelled.
        """
        self.reach(self._done + amount)

    def reach(self, done: int) -> None:
        """Set what is done in all to ``done``, unless more is done already, and report it.

        Raises:
            Interrupted: if the job was cancelled.
        """
        self._done = min(max(done, self._done), self._total)
        self._job.report(self._phase, self._done, self._total, facts=self.facts)
