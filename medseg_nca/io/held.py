"""Settings of the whole process that must hold while any thread reads a file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock

Restore = Callable[[], None]


class Held:
    """Changes settings when the first thread comes, and restores them when the last leaves.

    Args:
        change: changes them, and returns what restores them.
    """

    def __init__(self, change: Callable[[], Restore]) -> None:
        self._change = change
        self._lock = Lock()
        self._inside = 0
        self._restore: Restore | None = None

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep the settings changed while the context is open."""
        with self._lock:
            if not self._inside:
                self._restore = self._change()
            self._inside += 1
        try:
            yield
        finally:
            with self._lock:
                self._inside -= 1
                if not self._inside and self._restore is not None:
                    self._restore()
                    self._restore = None
