"""Where passwords are checked: one at a time, apart from all other work."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future, ThreadPoolExecutor

from medseg_nca.serving.errors import Refused
from medseg_nca.serving.security.users import User, UserFile

# Checks that wait or are made; one takes a good part of a second of a core.
MOST = 8


class PasswordDesk:
    """One thread for argon2, so that logins never hold up what else the server does.

    Args:
        users: who may log in.
        most: checks that wait or are made.
    """

    def __init__(self, users: UserFile, most: int = MOST) -> None:
        self._users, self._most, self._there = users, most, 0
        self._lock = threading.Lock()
        self._thread = ThreadPoolExecutor(1, "passwords")

    async def check(self, name: str, password: str) -> User | None:
        """The user if the password is theirs.

        Raises:
            Refused: with 429 if too many wait.
        """
        with self._lock:
            if self._there >= self._most:
                raise Refused(429, "Too many log in at this moment.", retry_after=3)
            self._there += 1
        found = self._thread.submit(self._users.check, name, password)
        found.add_done_callback(self._leave)  # also where the client did not wait for it
        return await asyncio.wrap_future(found)

    def _leave(self, found: Future[User | None]) -> None:
        with self._lock:
            self._there -= 1
