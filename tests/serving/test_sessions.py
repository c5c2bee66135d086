"""Images of sessions are not kept longer than was said."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest

from medseg_nca.serving.audit import AuditLog
from medseg_nca.serving.errors import Refused
from medseg_nca.serving.intake import Received
from medseg_nca.serving.jobs.service import JobService, Parts
from medseg_nca.serving.jobs.store import JobStore
from medseg_nca.serving.metrics import Metrics
from medseg_nca.serving.sessions import Sessions
from medseg_nca.serving.settings import Limits
from tests.serving.test_full_disk import catalogue, until


def test_an_old_session_is_removed_at_the_start_of_a_server(tmp_path: Path) -> None:
    for name in ("old", "new"):
        (tmp_path / name).write_bytes(b"image")
    folder = tmp_path / "sessions"
    Sessions(folder, age=3600).create(Received("image", (tmp_path / "old",), b""), "ann")
    time.sleep(0.3)
    sessions = Sessions(folder, age=0.2)
    store = JobStore(tmp_path / "state")
    parts = Parts(store, catalogue(tmp_path), AuditLog(tmp_path), Metrics(), Limits())
    service = JobService(parts, (), 1, chores=(sessions.sweep,))
    service.start()
    until(lambda: not list(folder.iterdir()))  # and nobody made another session
    service.close()
    store.close()


def test_a_session_that_somebody_removes_meanwhile_is_gone(tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(b"image")
    sessions = Sessions(tmp_path / "sessions", age=60)
    name = sessions.create(Received("image", (tmp_path / "image",), b""), "ann")
    shutil.rmtree(tmp_path / "sessions" / name / "files")  # half of a removal
    for ask in (sessions.info, sessions.files):
        with pytest.raises(Refused) as caught:
            ask(name, "ann")
        assert caught.value.status == 404
    assert not list((tmp_path / "sessions").iterdir())
