"""kill -9 of a server at random moments, while it starts, receives and computes."""

from __future__ import annotations

import hashlib
import random
import threading
import time
from collections import Counter
from pathlib import Path

import httpx
import pytest

from tests.serving.running import Server, start, volume
from tests.tracking.tiny import save_tiny

pytestmark = pytest.mark.slow

KILLS, EACH = 20, 3
SEED = 20260730
# Large enough that a job is at work at some of the moments, and small enough for many jobs.
IMAGES = {seed: volume((60, 60, 60), seed=seed) for seed in range(EACH)}


class Sender(threading.Thread):
    """Sends a few images, and keeps what was accepted: the id, and which image it was."""

    def __init__(self, server: Server) -> None:
        super().__init__()
        self._server = server
        self.accepted: dict[str, int] = {}

    def run(self) -> None:
        for seed, content in IMAGES.items():
            try:
                answer = self._server.send(content, model="tiny")
            except httpx.HTTPError:  # the server is gone
                return
            assert answer.status_code == 202, answer.text
            self.accepted[answer.json()["id"]] = seed


def kill_at_random(server: Server, moments: random.Random) -> dict[str, int]:
    """Send jobs to a server that has just begun to listen, and kill it; the accepted jobs.

    It is killed while it starts, while it receives, or while it computes, which comes after other
    times on a busy machine than on an idle one.
    """
    sender = Sender(server)
    sender.start()
    moment = moments.choice(("starts", "receives", "receives", "computes"))
    wanted = moments.randint(1, EACH)
    while moment == "receives" and sender.is_alive() and len(sender.accepted) < wanted:
        time.sleep(0.002)
    while moment == "computes" and not at_work(server, sender):
        time.sleep(0.02)
    time.sleep(moments.uniform(0, 0.3))
    server.kill()
    sender.join()
    return sender.accepted


def at_work(server: Server, sender: Sender) -> bool:
    """Whether a job is computed, or all that were sent have been."""
    sends = sender.is_alive()
    states = {job["state"] for job in server.get("/v1/jobs?most=1000").json()["jobs"]}
    return "running" in states or not (sends or "queued" in states)


def test_no_accepted_job_is_lost_or_doubled_by_twenty_kills(tmp_path: Path) -> None:
    save_tiny(tmp_path / "tiny")
    options = ("--models", f"tiny={tmp_path / 'tiny'}", "--queue", "1000")
    moments, accepted = random.Random(SEED), dict[str, int]()
    for _ in range(KILLS):
        accepted |= kill_at_random(start(tmp_path, *options), moments)
    assert len(accepted) >= KILLS  # or the kills came before anything happened
    server = start(tmp_path, *options).ready()
    known = {job["id"] for job in server.get("/v1/jobs?most=1000").json()["jobs"]}
    # Of each kill one job may be there whose answer did not arrive.
    assert set(accepted) <= known
    assert len(known) <= len(accepted) + KILLS
    ended = {name: server.wait({"id": name}) for name in known}
    digests: dict[int, set[str]] = {seed: set() for seed in IMAGES}
    for name, seed in accepted.items():
        job = ended[name]
        if job["state"] == "done":
            digests[seed].add(whole_result(server, job))
        else:  # two kills hit it while it was at work
            assert (job["error"]["status"], job["attempts"]) == (503, 2), job
    states = Counter(job["state"] for job in ended.values())
    assert states["done"] > len(ended) / 2, states
    assert all(len(found) == 1 for found in digests.values())  # each time the same voxels
    assert {path.name for path in (server.state / "jobs").iterdir()} == known
    assert not list((server.state / "incoming").iterdir())
    assert server.stop() == 0
    lines = (server.state / "audit.log").read_text().splitlines()
    done = Counter(name for name in known for line in lines
                   if name in line and '"outcome": "done"' in line)  # fmt: skip
    assert set(done.values()) == {1}


def whole_result(server: Server, job: dict[str, object]) -> str:
    """The SHA-256 of a label map, which is what the job says it is."""
    (told,) = (each for each in job["outputs"] if each["kind"] == "label_map")  # type: ignore[attr-defined]
    answer = server.get(f"/v1/jobs/{job['id']}/outputs/label_map")
    assert answer.status_code == 200, answer.text
    digest = hashlib.sha256(answer.content).hexdigest()
    assert (digest, len(answer.content)) == (told["sha256"], told["bytes"])
    return digest
