"""How often somebody may try a password."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque

# Wrong passwords within so many seconds.
MOST, WINDOW = 5, 300.0
_REMEMBERED = 10_000


class LoginLimit:
    """Counts wrong passwords by name and by address; may be used from several threads."""

    def __init__(self, most: int = MOST, window: float = WINDOW) -> None:
        self._most, self._window = most, window
        self._wrong: OrderedDict[str, deque[float]] = OrderedDict()
        self._lock = threading.Lock()

    def wait(self, *keys: str) -> float:
        """Seconds until the next try is allowed; 0 if it is now."""
        now = time.monotonic()
        with self._lock:
            return max((self._left(key, now) for key in keys), default=0.0)

    def failed(self, *keys: str) -> None:
        """Note a wrong password."""
        now = time.monotonic()
        with self._lock:
            for key in keys:
                tries = self._wrong.setdefault(key, deque(maxlen=self._most))
                tries.append(now)
                self._wrong.move_to_end(key)
            while len(self._wrong) > _REMEMBERED:
                self._wrong.popitem(last=False)

    def _left(self, key: str, now: float) -> float:
        tries = self._wrong.get(key)
        if tries is None or len(tries) < self._most:
            return 0.0
        return max(tries[0] + self._window - now, 0.0)
