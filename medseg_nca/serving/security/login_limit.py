"""How often somebody may try a password."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from dataclasses import dataclass

_REMEMBERED = 10_000


@dataclass(frozen=True)
class TryLimit:
    """Wrong passwords, and the seconds within which so many are the last."""

    most: int
    seconds: float


# A name alone has a wide rule: a narrow one would let anybody lock a user out from elsewhere.
PAIR, ADDRESS, NAME = TryLimit(5, 300.0), TryLimit(20, 300.0), TryLimit(50, 3600.0)


class LoginLimit:
    """Counts wrong passwords by name and address; may be used from several threads.

    A try counts as wrong from its beginning, so that many at once are no more than many in a row.

    Args:
        pair: for a name from one address.
        address: for all names from one address.
        name: for one name from all addresses.
    """

    def __init__(
        self, pair: TryLimit = PAIR, address: TryLimit = ADDRESS, name: TryLimit = NAME
    ) -> None:
        self._pair, self._address, self._name = pair, address, name
        self._tries: OrderedDict[tuple[str, ...], deque[float]] = OrderedDict()
        self._lock = threading.Lock()

    def begin(self, name: str, address: str) -> float:
        """Count a try; 0 if it may go on, else the seconds to wait (it is not counted then)."""
        rules, now = self._rules(name, address), time.monotonic()
        with self._lock:
            wait = max(self._left(key, rule, now) for key, rule in rules.items())
            if wait > 0:
                return wait
            for key, rule in rules.items():
                self._tries.setdefault(key, deque(maxlen=rule.most)).append(now)
                self._tries.move_to_end(key)
            while len(self._tries) > _REMEMBERED:
                self._tries.popitem(last=False)
        return 0.0

    def undo(self, name: str, address: str) -> None:
        """Take back a try that was right, or that was not made after all."""
        with self._lock:
            for key in self._rules(name, address):
                if tries := self._tries.get(key):
                    tries.pop()

    def _rules(self, name: str, address: str) -> dict[tuple[str, ...], TryLimit]:
        return {
            ("pair", name, address): self._pair,
            ("address", address): self._address,
            ("name", name): self._name,
        }

    def _left(self, key: tuple[str, ...], rule: TryLimit, now: float) -> float:
        tries = self._tries.get(key)
        if tries is None or len(tries) < rule.most:
            return 0.0
        return max(tries[0] + rule.seconds - now, 0.0)
