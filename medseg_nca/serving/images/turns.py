"""How many requests may have to do with another server at a time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from medseg_nca.serving.errors import Refused

# Requests that ask the other server, requests that wait until they may, and seconds that one waits.
# Together they are fewer than the 40 threads that answer requests of all kinds, so that a server
# of images that hangs leaves threads for everything else.
_AT_ONCE, _MOST_WAITING, _PATIENCE = 12, 12, 5.0


class Turns:
    """Lets some in, has some wait, and refuses all others; may be used from several threads."""

    def __init__(self) -> None:
        self._there = threading.BoundedSemaphore(_AT_ONCE + _MOST_WAITING)
        self._at_work = threading.BoundedSemaphore(_AT_ONCE)

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Have a turn until the block ends.

        Raises:
            Refused: with 503 if there is none for the next seconds.
        """
        busy = Refused(
            503, "Too many requests have to do with the DICOMweb server of the images just now.",
            hint="Ask again later.", retry_after=10,
        )  # fmt: skip
        if not self._there.acquire(blocking=False):
            raise busy
        try:
            if not self._at_work.acquire(timeout=_PATIENCE):
                raise busy
            try:
                yield
            finally:
                self._at_work.release()
        finally:
            self._there.release()
