"""Two machines share a search by PostgreSQL, a real one from Debian."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from optuna.trial import TrialState

from medseg_nca.datasets.adapters.phantom import write_phantom
from medseg_nca.search.storage import storage_url
from tests.pipelines.work import free_port
from tests.search.commands import start, trials, wait_for

PASSWORD = "not/for@anyone"


@dataclass
class Server:
    """A PostgreSQL server with a folder of its own, run by a user other than root."""

    programs: Path
    folder: Path
    port: int
    user: str

    @property
    def url(self) -> str:
        return f"postgresql://{self.user}:not%2Ffor%40anyone@127.0.0.1:{self.port}/postgres"

    def do(self, program: str, *words: object) -> None:
        call = [str(self.programs / program), *map(str, words)]
        if os.getuid() == 0:
            call = ["runuser", "-u", self.user, "--", *call]
        done = subprocess.run(call, capture_output=True, text=True, cwd=self.folder, check=False)
        assert done.returncode == 0, done.stderr

    def make(self) -> None:
        secret = self.folder / "secret"
        secret.write_text(PASSWORD)
        if os.getuid() == 0:
            shutil.chown(secret, self.user)
        self.do("initdb", "-D", self.folder / "db", "--auth=scram-sha-256", "--pwfile", secret,
                "-U", self.user)  # fmt: skip
        self.start()

    def start(self) -> None:
        options = f"-h 127.0.0.1 -p {self.port} -k {self.folder}"
        log = self.folder / "log"
        self.do("pg_ctl", "-D", self.folder / "db", "-o", options, "-w", "-l", log, "start")

    def stop(self) -> None:
        self.do("pg_ctl", "-D", self.folder / "db", "-m", "immediate", "-w", "stop")


@pytest.fixture
def server() -> Iterator[Server]:
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not programs:
        pytest.skip("PostgreSQL is absent: apt-get install postgresql")
    user = pwd.getpwuid(os.getuid()).pw_name
    if os.getuid() == 0:  # initdb refuses root
        user = "postgres"
        if shutil.which("runuser") is None:
            pytest.skip("the program runuser is absent")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        if os.getuid() == 0:
            shutil.chown(folder, user)
        made = Server(programs[-1].parent, Path(folder), free_port(), user)
        made.make()
        yield made
        if (made.folder / "db" / "postmaster.pid").exists():
            made.stop()


@pytest.mark.peer
@pytest.mark.slow
def test_two_machines_share_a_search_and_outlive_their_database(
    server: Server, tmp_path: Path
) -> None:
    data = write_phantom(tmp_path / "data", 6, dims=2, size=(24, 24))
    words = ("--budget", 60, "--trials", 6, "--storage", server.url, "--study", "both")
    url = storage_url(server.url, tmp_path)
    impatient = {"MEDSEG_SEARCH_PATIENCE": "3"}

    outs = [tmp_path / "one", tmp_path / "two"]
    both = [start(data, out, *words, environment=impatient) for out in outs]
    wait_for(both[0], url, TrialState.COMPLETE)
    server.stop()
    for command in both:
        printed = command.communicate()
        assert command.returncode == 2, printed
        assert "does not answer" in printed[1]
        assert "anyone" not in "".join(printed)
    server.start()
    kept = {t.number: t.params for t in trials(url) if t.params}
    assert kept

    both = [start(data, out, *words) for out in outs]
    for command in both:
        printed = command.communicate()
        assert command.returncode == 0, printed
        assert "anyone" not in "".join(printed)
    ended = trials(url)
    assert {trial.state for trial in ended} <= {TrialState.COMPLETE, TrialState.PRUNED}
    assert [trial.number for trial in ended] == list(range(6))
    assert {n: ended[n].params for n in kept} == kept
    assert len({trial.params["training.lr"] for trial in ended}) == 6
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not [path for path in files if b"anyone" in path.read_bytes()]
