"""A back-up that was made while the server worked gives a server with the same jobs."""

from __future__ import annotations

import io
import shutil
import subprocess
from pathlib import Path

import pytest

from medseg_nca.serving.jobs.store import JobStore
from medseg_nca.serving.node.spool import Spool
from tests.serving.running import Server, picture, start

SCRIPT = Path(__file__).parents[2] / "docs" / "deploy" / "backup.sh"
pytestmark = pytest.mark.skipif(
    shutil.which("sqlite3") is None, reason="sqlite3 is not installed (Debian: sqlite3)"
)


def back_up(state: Path, target: Path) -> subprocess.CompletedProcess[str]:
    command = ["sh", str(SCRIPT), str(state), str(target)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def test_a_copy_of_a_server_at_work_serves_what_it_had(server: Server, tmp_path: Path) -> None:
    done = server.wait(server.send(picture(seed=5), model="nuclei").json())
    assert done["state"] == "done", done
    answer = server.get(f"/v1/jobs/{done['id']}/outputs/label_map")
    queued = [server.send(picture(seed=6 + n), model="nuclei").json()["id"] for n in range(3)]
    made = back_up(server.state, tmp_path / "copy" / "state")
    assert made.returncode == 0, made.stderr
    for path in (tmp_path / "copy" / "state").rglob("*"):
        assert path.stat().st_mode & 0o077 == 0 or path.is_dir(), path
    restored = start(tmp_path / "copy", "--models", "zoo:nuclei")
    try:
        restored.ready()
        assert restored.get(f"/v1/jobs/{done['id']}").json()["state"] == "done"
        again = restored.get(f"/v1/jobs/{done['id']}/outputs/label_map")
        assert again.content == answer.content
        for name in queued:
            job = restored.wait({"id": name})
            # Its input may have gone between the copy of the database and that of the folders.
            assert job["state"] == "done" or job["error"]["status"] in (422, 500), job
    finally:
        assert restored.stop() == 0
    for name in queued:
        server.wait({"id": name})


def test_the_spool_of_a_node_is_copied_without_what_is_arriving(tmp_path: Path) -> None:
    node = tmp_path / "node"
    JobStore(node).close()
    spool = Spool(node / "series")
    with io.BytesIO(b"an instance") as stream:
        key = spool.keep(stream, "1.2", "1.2.3", "1.2.3.4").key
    (node / "series" / ".arriving" / "half").touch()
    done = back_up(node, tmp_path / "copy")
    assert done.returncode == 0, done.stderr
    copy = Spool(tmp_path / "copy" / "series")
    assert [path.read_bytes() for path in copy.files(key)] == [b"an instance"]
    assert copy.held(["1.2.3.4"]) == {"1.2.3.4"}
    assert not list((tmp_path / "copy").rglob("half"))


def test_what_is_no_folder_of_a_server_is_not_backed_up(tmp_path: Path) -> None:
    done = back_up(tmp_path, tmp_path / "copy")
    assert done.returncode == 2
    assert "holds no jobs.sqlite" in done.stderr
    (tmp_path / "jobs.sqlite").touch()
    (tmp_path / "there").mkdir()
    done = back_up(tmp_path, tmp_path / "there")
    assert done.returncode == 2
    assert "is there already" in done.stderr
    (tmp_path / "new.part").mkdir()  # it broke off
    done = back_up(tmp_path, tmp_path / "new")
    assert done.returncode == 2
    assert "remove it" in done.stderr
