"""Bearer tokens: random, known to the server by their SHA-256 only, and good for some hours."""

from __future__ import annotations

import hashlib
import secrets
import time

from medseg_nca.serving.jobs.store import JobStore
from medseg_nca.serving.security.users import User, UserFile


class Tokens:
    """The logins of a server, which survive its restart.

    Args:
        store: whose database keeps them.
        users: whoever was removed or got another password is logged out.
        age: seconds that a token is good for.
    """

    def __init__(self, store: JobStore, users: UserFile, age: float) -> None:
        self._store, self._users, self._age = store, users, age

    def issue(self, user: User) -> str:
        """A new token."""
        token = secrets.token_urlsafe(32)
        now = time.time()
        with self._store.transaction() as database:
            database.execute("DELETE FROM tokens WHERE expires < ?", (now,))
            database.execute(
                "INSERT INTO tokens VALUES (?, ?, ?, ?)",
                (_digest(token), user.name, _digest(user.hash), now + self._age),
            )
        return token

    def user_of(self, token: str) -> User | None:
        """Who a token belongs to; None if it is good for nothing."""
        with self._store.transaction() as database:
            row = database.execute(
                "SELECT user, stamp, expires FROM tokens WHERE digest = ?", (_digest(token),)
            ).fetchone()
        if row is None or row["expires"] < time.time():
            return None
        user = self._users.get(row["user"])
        return user if user is not None and _digest(user.hash) == row["stamp"] else None

    def revoke(self, token: str) -> None:
        """Log out."""
        with self._store.transaction() as database:
            database.execute("DELETE FROM tokens WHERE digest = ?", (_digest(token),))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
