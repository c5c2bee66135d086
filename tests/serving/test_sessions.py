"""Images of sessions are not kept longer than was said."""

from __future__ import annotations

import time
from pathlib import Path

from medseg_nca.serving.audit import AuditLog
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
