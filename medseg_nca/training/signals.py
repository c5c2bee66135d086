"""Let Ctrl-C and SIGTERM end a training between two iterations, never inside one."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

logger = logging.getLogger(__name__)


@contextmanager
def on_stop_signal(request: Callable[[], None]) -> Iterator[None]:
    """Call ``request`` at the first SIGINT or SIGTERM; a second signal interrupts at once.

    Outside the main thread, where Python accepts no signal handlers, this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    asked = False

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        logger.warning("Stopping after this iteration; press Ctrl-C again to stop at once.")
        request()

    before = {n: signal.signal(n, handle) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
