"""The contract between work that takes long and whoever waits for it: progress, and cancelling."""

from __future__ import annotations

from typing import Protocol


class Watch(Protocol):
    """Is told how far one piece of work is, and may stop it.

    It is called in the thread that computes, from a few times a second to once in some seconds.
    ``done`` never falls and ends at ``total``, which stays the same during one piece of work; the
    unit is the work's own, so only the ratio means something.

    To cancel, raise an exception: it leaves the work as it came, and nothing half-done is kept.
    """

    def __call__(self, done: int, total: int) -> None:
        """Take note of ``done`` out of ``total``."""


def unwatched(done: int, total: int) -> None:
    """A :class:`Watch` that takes no note."""


class Meter:
    """Adds up what the parts of one piece of work did, for a watch.

    Args:
        watch: is told.
        total: all that is to be done.
    """

    def __init__(self, watch: Watch, total: int) -> None:
        self._watch, self._total = watch, max(total, 1)
        self._done = 0

    def advance(self, amount: int) -> None:
        """Note that ``amount`` more is done."""
        self.reach(self._done + amount)

    def reach(self, done: int) -> None:
        """Note that ``done`` is done in all; less than before changes nothing."""
        self._done = min(max(done, self._done), self._total)
        self._watch(self._done, self._total)


class Share:
    """The part of a larger piece of work that one of ``parts`` equal pieces is; a :class:`Watch`.

    Args:
        watch: of the larger piece; its total is ``parts`` times that of one piece.
        index: of this piece, from 0.
        parts: how many there are.
    """

    def __init__(self, watch: Watch, index: int, parts: int) -> None:
        self._watch, self._index, self._parts = watch, index, parts

    def __call__(self, done: int, total: int) -> None:
        """See :class:`Watch`."""
        self._watch(self._index * total + done, self._parts * total)
