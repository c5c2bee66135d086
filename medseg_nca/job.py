"""The contract between work that takes long and whoever waits for it: progress, and cancelling.

Whoever starts the work makes a :class:`Job` and hands it down. The work reports to it how far it
is, and looks at it before every case, tile, batch of steps and pass. Cancelling ends the work with
:class:`medseg_nca.errors.Interrupted`: what is finished is kept, and nothing is half-written.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from medseg_nca.errors import Interrupted

# The phase that tells how far one case is, while another phase counts the cases.
ONE_CASE = "this case"


@dataclass(frozen=True)
class Progress:
    """How far one phase of a piece of work is.

    Attributes:
        phase: what is being done, for example "predicting".
        done: never falls within a phase, and ends at ``total``.
        total: stays the same within a phase; None where it is not known.
        unit: of both; "" where only their ratio means something.
        facts: numbers that belong to it, for example the loss of a training, or how many cases
            failed.
    """

    phase: str
    done: int
    total: int | None
    unit: str = ""
    facts: Mapping[str, float] = field(default_factory=dict)


Listener = Callable[[Progress], None]


class Job:
    """One piece of long work, as the work itself and whoever waits for it see it.

    :meth:`cancel`, :attr:`cancelled` and :attr:`reason` may be used from any thread. All else is
    for the thread that works.

    Args:
        listener: is told of every report, in the thread that works, from a few times a second to
            once in some seconds; what it raises leaves the work as it came. None lets nobody know.

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

    def check(self) -> None:
        """Look whether the work is still wanted.

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
        """Tell how far a phase is, and look whether the work is still wanted.

        Args:
            phase: see :class:`Progress`, as all other arguments.
            done: in units.
            total: in units.
            unit: of both.
            facts: more numbers.

        Raises:
            Interrupted: if it was cancelled; the listener is then not told.
        """
        self.check()
        if self._listener is None:
            return
        if total is not None:
            done, total = self._index * total + done, self._parts * total
        self._listener(Progress(phase, done, total, unit, facts or {}))

    def part(self, index: int, parts: int) -> Job:
        """The job of one of several equal parts; cancelled with the whole.

        Args:
            index: of the part, from 0.
            parts: how many there are. ``total`` of the whole is ``parts`` times that of a part.
        """
        part = Job(self._listener)
        part._token = self._token
        part._index, part._parts = self._index * parts + index, self._parts * parts
        return part

    def silent(self) -> Job:
        """The job of a piece that nobody is told of; cancelled with the whole."""
        piece = Job()
        piece._token = self._token
        return piece


@dataclass
class _Token:
    """What all parts of a job share."""

    event: threading.Event = field(default_factory=threading.Event)
    reason: str = ""


class Meter:
    """Adds up what the pieces of one phase did, for a job.

    Args:
        job: is told.
        phase: what is being done.
        total: all that is to be done.

    Attributes:
        facts: are told with every report.
    """

    def __init__(self, job: Job, phase: str, total: int) -> None:
        self._job, self._phase, self._total = job, phase, max(total, 1)
        self._done = 0
        self.facts: Mapping[str, float] = {}

    def advance(self, amount: int) -> None:
        """Note that ``amount`` more is done.

        Raises:
            Interrupted: if the job was cancelled.
        """
        self.reach(self._done + amount)

    def reach(self, done: int) -> None:
        """Note that ``done`` is done in all; less than before changes nothing.

        Raises:
            Interrupted: if the job was cancelled.
        """
        self._done = min(max(done, self._done), self._total)
        self._job.report(self._phase, self._done, self._total, facts=self.facts)
