"""Who did what, and when: one JSON object a line, without anything that names a patient."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any


class AuditLog:
    """Appends to ``audit.log`` in the folder of the server; may be used from several threads.

    Args:
        state: folder of the server. ``audit.key`` in it turns what identifies an image into a
            number that is the same each time and cannot be found by trying: keep it as secret as
            the images.
    """

    def __init__(self, state: Path) -> None:
        self.path = state / "audit.log"
        self._key = _key(state / "audit.key")
        self._lock = threading.Lock()

    def name(self, identity: str | bytes) -> str:
        """What the log calls an image, from its series UID or its content."""
        content = identity.encode() if isinstance(identity, str) else identity
        return hmac.new(self._key, content, hashlib.sha256).hexdigest()[:32]

    def write(self, action: str, *, user: str = "", outcome: str = "", **facts: Any) -> None:
        """Add a line.

        Args:
            action: "login", "job", "output", "model", "image", "label".
            user: who did it.
            outcome: what became of it.
            **facts: job, series (see :meth:`name`), model (name@version), seconds.
        """
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        line = {"time": now, "user": user, "action": action, "outcome": outcome, **facts}
        text = json.dumps(line, ensure_ascii=True) + "\n"
        with self._lock:
            handle = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            try:
                os.write(handle, text.encode("ascii"))
            finally:
                os.close(handle)

    def tail(self, lines: int) -> str:
        """The last lines."""
        try:
            with self.path.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(size - 400 * lines, 0))
                text = file.read().decode("ascii", "replace")
        except FileNotFoundError:
            return ""
        return "\n".join(text.splitlines()[-lines:])


def _key(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        key = secrets.token_bytes(32)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.write(handle, key)
        finally:
            os.close(handle)
        return key
