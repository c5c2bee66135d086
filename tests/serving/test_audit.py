"""The audit log loses no line when it is rotated."""

from __future__ import annotations

import json
import threading
from pathlib import Path

from medseg_nca.serving.audit import AuditLog


def test_a_log_that_is_renamed_meanwhile_loses_no_line(tmp_path: Path) -> None:
    """What logrotate does with `create`: rename, then an empty file in its place."""
    audit, lines = AuditLog(tmp_path), 400

    def write(worker: int) -> None:
        for number in range(lines):
            audit.write("job", user=f"w{worker}", outcome="done", job=str(number))

    threads = [threading.Thread(target=write, args=(worker,)) for worker in range(3)]
    for thread in threads:
        thread.start()
    for number in range(20):
        threads[0].join(0.01)
        if audit.path.exists():
            audit.path.rename(tmp_path / f"audit.log-{number}")
            audit.path.touch(0o600)
    for thread in threads:
        thread.join()
    found = [
        json.loads(line)
        for path in tmp_path.glob("audit.log*")
        for line in path.read_text().splitlines()
    ]
    assert sorted((line["user"], int(line["job"])) for line in found) == [
        (f"w{worker}", number) for worker in range(3) for number in range(lines)
    ]
    assert all(path.stat().st_mode & 0o077 == 0 for path in tmp_path.glob("audit.*"))
    audit.path.unlink()
    assert audit.tail(5) == ""
