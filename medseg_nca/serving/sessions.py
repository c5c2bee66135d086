"""Images that a client sends once and has computed several times (MONAI Label's sessions)."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medseg_nca.io.atomic import write_json
from medseg_nca.serving.errors import Refused
from medseg_nca.serving.intake import Received
from medseg_nca.serving.jobs.records import is_id, new_id

_META, _FILES = "session.json", "files"


class Sessions:
    """Sessions of a server, which survive its restart.

    Args:
        folder: for their images.
        age: seconds after the last use that one is kept.
    """

    def __init__(self, folder: Path, age: float) -> None:
        self._folder, self._age = folder, age
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def create(self, received: Received, owner: str) -> str:
        """Keep an image; its files are moved. Returns the id of the session."""
        self.sweep()
        session_id, now = new_id(), time.time()
        place = self._folder / session_id
        (place / _FILES).mkdir(parents=True, mode=0o700)
        for path in received.files:
            shutil.move(path, place / _FILES / path.name)
        write_json(place / _META, {"owner": owner, "created": now, "used": now})
        return session_id

    def files(self, session_id: str, owner: str | None) -> tuple[Path, ...]:
        """The files of a session, which was used just now.

        Args:
            session_id: of it.
            owner: who asks; None may use all.

        Raises:
            Refused: with 404 if there is none, it is somebody else's, or it has expired.
        """
        tree = self._read(session_id, owner)
        place = self._folder / session_id
        write_json(place / _META, {**tree, "used": time.time()})
        return self._files(session_id)

    def info(self, session_id: str, owner: str | None) -> dict[str, Any]:
        """What MONAI Label's clients are told; the path is the id, never one of this machine.

        Raises:
            Refused: as :meth:`files`.
        """
        tree = self._read(session_id, owner)
        image = self._files(session_id)[0].name
        return {
            "name": session_id, "path": session_id, "image": image, "meta": {},
            "create_ts": int(tree["created"]), "last_access_ts": int(tree["used"]),
            "expiry": int(self._age),
        }  # fmt: skip

    def remove(self, session_id: str, owner: str | None) -> None:
        """Forget a session.

        Raises:
            Refused: as :meth:`files`.
        """
        self._read(session_id, owner)
        shutil.rmtree(self._folder / session_id, ignore_errors=True)

    def _files(self, session_id: str) -> tuple[Path, ...]:
        """Raises Refused (404) if it was removed by somebody else just now."""
        place = self._folder / session_id
        try:
            return tuple(sorted((place / _FILES).iterdir()))
        except FileNotFoundError:
            shutil.rmtree(place, ignore_errors=True)  # noting its use may have made it once more
            raise _gone() from None

    def _read(self, session_id: str, owner: str | None) -> Mapping[str, Any]:
        gone = _gone()
        if not is_id(session_id):
            raise gone
        try:
            text = (self._folder / session_id / _META).read_text(encoding="utf-8")
            tree: dict[str, Any] = json.loads(text)
        except (OSError, ValueError):
            raise gone from None
        if owner is not None and tree["owner"] != owner:
            raise gone
        if tree["used"] + self._age < time.time():
            shutil.rmtree(self._folder / session_id, ignore_errors=True)
            raise gone
        return tree

    def sweep(self) -> None:
        """Remove the sessions that nobody used for too long."""
        for place in self._folder.iterdir():
            try:
                tree = json.loads((place / _META).read_text(encoding="utf-8"))
                old = tree["used"] + self._age < time.time()
            except (OSError, ValueError, KeyError):
                old = place.stat().st_mtime + self._age < time.time()
            if old:
                shutil.rmtree(place, ignore_errors=True)


def _gone() -> Refused:
    return Refused(404, "There is no such session, or it has expired.", hint="Make a new one.")
