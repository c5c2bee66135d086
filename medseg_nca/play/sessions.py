"""The sessions of all pages: bounded in number, and in memory only."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from medseg_nca.play.session import PlaySession
from medseg_nca.serving.errors import Refused
from medseg_nca.serving.jobs.records import new_id
from medseg_nca.stages.stage import StageInput

MOST_SESSIONS = 8
# Seconds without a look after which a session may give way to a new one, or ends by itself.
QUIET, FORGOTTEN = 15.0, 900.0


class PlaySessions:
    """Begins sessions, finds them by their ids, and ends them.

    Args:
        inputs: what can be watched.
        most: sessions at a time; for another one the one that nobody has looked at for longest
            ends, if that is some seconds ago.
        clock: seconds that never go back.
    """

    def __init__(
        self,
        inputs: Sequence[StageInput],
        most: int = MOST_SESSIONS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.inputs, self._most, self._clock = inputs, most, clock
        self._lock = threading.Lock()
        self._open: dict[str, tuple[PlaySession, float]] = {}

    def begin(self, place: int) -> tuple[str, PlaySession]:
        """Begin a session on the input at that place.

        Raises:
            Refused: 404 if there is no such input, 503 if as many sessions are looked at.
            ImageError: if the input cannot be used.
        """
        if place >= len(self.inputs):
            raise Refused(404, f"There are the inputs 0 to {len(self.inputs) - 1}.")
        with self._lock:
            self._make_room()
        session = PlaySession(self.inputs[place].open())
        with self._lock:
            self._make_room()
            key = new_id()
            self._open[key] = (session, self._clock())
        return key, session

    def get(self, key: str) -> PlaySession:
        """Return a session that is looked at now.

        Raises:
            Refused: with 404 if there is none of this id.
        """
        with self._lock:
            if key not in self._open:
                raise Refused(
                    404, "There is no such session any more.", hint="Load the page again."
                )
            session, _ = self._open.pop(key)
            self._open[key] = (session, self._clock())
            return session

    def end(self, key: str) -> None:
        """End a session, if there is one of this id."""
        with self._lock:
            self._open.pop(key, None)

    def _make_room(self) -> None:
        now = self._clock()
        for key, (_, seen) in list(self._open.items()):
            if now - seen > FORGOTTEN:
                del self._open[key]
        if len(self._open) < self._most:
            return
        oldest = min(self._open, key=lambda key: self._open[key][1])
        if now - self._open[oldest][1] < QUIET:
            raise Refused(
                503, f"{self._most} pages are open already.", hint="Close one of them.",
                retry_after=int(QUIET),
            )  # fmt: skip
        del self._open[oldest]
