"""What becomes of jobs when a worker or the server ends, in whatever way."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import psutil
import pytest

from medseg_nca.tracking.registry import register
from medseg_nca.tracking.resolve import load_model
from medseg_nca.tracking.store import connect
from tests.serving.running import Server, start, volume
from tests.tracking.tiny import make_run, new_store, save_tiny

pytestmark = pytest.mark.slow


def workers_of(server: Server) -> list[psutil.Process]:
    children = psutil.Process(server.process.pid).children(recursive=True)
    return [child for child in children if "spawn_main" in " ".join(child.cmdline())]


@pytest.fixture
def model(tmp_path: Path) -> str:
    save_tiny(tmp_path / "tiny")
    return f"tiny={tmp_path / 'tiny'}"


def test_a_server_that_is_killed_loses_and_doubles_no_job(tmp_path: Path, model: str) -> None:
    """Killed while it starts, while it receives, while it computes, and between two jobs."""
    sent: list[str] = []
    for number, moment in enumerate((0.0, 0.3, 1.1)):
        server = start(tmp_path, "--models", model, "--queue", "100")
        if number:
            server.ready()
        for seed in range(3):
            answer = server.send(volume((60, 60, 60), seed=seed), model="tiny")
            sent.append(answer.json()["id"])
        time.sleep(moment)
        server.kill()
    server = start(tmp_path, "--models", model, "--queue", "100")
    jobs = [server.wait({"id": name}) for name in sent]
    assert len(sent) == 9
    # Hit by two kills in a row a job may have failed, and says so; nothing else may happen to it.
    for job in jobs:
        assert job["state"] == "done" or job["error"]["status"] == 503, job
        assert job["attempts"] <= 2
    assert [job["state"] for job in jobs].count("done") >= 8
    known = {job["id"] for job in server.get("/v1/jobs").json()["jobs"]}
    assert known == set(sent)
    assert {folder.name for folder in (server.state / "jobs").iterdir()} == set(sent)
    for job in jobs:
        left = [path.name for path in (server.state / "jobs" / job["id"]).iterdir()]
        assert left == (["output"] if job["state"] == "done" else [])
    assert server.stop() == 0
    done = (server.state / "audit.log").read_text().count('"outcome": "done"')
    assert done == [job["state"] for job in jobs].count("done")  # each was taken over once


def test_a_worker_that_dies_is_replaced_and_its_job_tried_once_more(
    tmp_path: Path, model: str
) -> None:
    server = start(tmp_path, "--models", model).ready()
    job = server.send(volume((120, 120, 120)), model="tiny").json()
    while server.get(f"/v1/jobs/{job['id']}").json()["state"] != "running":
        time.sleep(0.02)
    (worker,) = workers_of(server)
    worker.kill()
    found = server.wait(job)
    assert (found["state"], found["attempts"]) == ("done", 2)
    (other,) = workers_of(server)
    assert other.pid != worker.pid
    assert "medseg_nca_jobs_retried_total{} 1" in server.get("/metrics").text
    assert server.stop() == 0


def test_sigterm_lets_the_computation_finish_and_the_result_arrive(
    tmp_path: Path, model: str
) -> None:
    temp = tmp_path / "temp"
    temp.mkdir()
    server = start(tmp_path, "--models", model, env={"TMPDIR": str(temp)}).ready()
    answers = []

    def infer() -> None:
        files = {"file": ("a", volume((120, 120, 120)))}
        answers.append(server.post("/infer/tiny?output=json", files=files))

    thread = threading.Thread(target=infer)
    thread.start()
    while not any(job["state"] == "running" for job in server.get("/v1/jobs").json()["jobs"]):
        time.sleep(0.02)
    waits = server.send(volume(), model="tiny").json()
    for process in (server.process.pid, *(worker.pid for worker in workers_of(server))):
        os.kill(process, signal.SIGTERM)  # an init system sends it to all
    assert server.process.wait(300) == 0
    thread.join()
    assert answers[0].status_code == 200, answers[0].text
    assert not list((server.state / "incoming").iterdir())
    assert not list(temp.iterdir())
    names = {job.name: [path.name for path in job.iterdir()]
             for job in (server.state / "jobs").iterdir()}  # fmt: skip
    assert names.pop(waits["id"]) == ["input"]
    assert list(names.values()) == [["output"]]
    again = start(tmp_path, "--models", model)
    assert again.wait(waits)["state"] == "done"  # what waited is computed after the next start
    assert again.stop() == 0


def test_a_worker_that_hangs_is_killed_when_its_job_is_cancelled(
    tmp_path: Path, model: str
) -> None:
    server = start(tmp_path, "--models", model).ready()
    job = server.send(volume((120, 120, 120)), model="tiny").json()
    while server.get(f"/v1/jobs/{job['id']}").json()["state"] != "running":
        time.sleep(0.02)
    (worker,) = workers_of(server)
    worker.suspend()  # as code that never comes back: it hears nothing
    server.delete(f"/v1/jobs/{job['id']}")
    found = server.wait(job)
    assert (found["state"], found["attempts"]) == ("cancelled", 1)
    worker.wait(60)
    assert server.wait(server.send(volume(), model="tiny").json())["state"] == "done"
    assert server.stop() == 0


def test_a_job_beyond_the_deadline_is_ended(tmp_path: Path, model: str) -> None:
    server = start(tmp_path, "--models", model, "--deadline", "0.01").ready()
    answer = server.post("/infer/tiny", files={"file": ("a", volume((120, 120, 120)))})
    assert answer.status_code == 504, answer.text
    assert "longer than 0.01 s" in answer.json()["detail"]
    assert server.stop() == 0


def test_moving_the_alias_changes_what_is_served_without_a_gap(tmp_path: Path) -> None:
    store = new_store(tmp_path / "store")
    for seed in (1, 2):
        make_run(tmp_path / f"run{seed}", seed=seed)
        register(load_model(str(tmp_path / f"run{seed}"), "cpu"), "hippo", tracking=store)
    client = connect(str(store.uri))
    client.set_registered_model_alias("hippo", "champion", "1")
    options = ("--models", "hippo@champion", "--tracking-uri", str(store.uri))
    server = start(tmp_path / "server", *options).ready()
    client.set_registered_model_alias("hippo", "champion", "2")
    versions, end = [], time.monotonic() + 120
    while versions[-1:] != ["2"] and time.monotonic() < end:
        answer = server.post("/infer/hippo?output=json", files={"file": ("a", volume())})
        assert answer.status_code == 200, answer.text
        versions.append(answer.json()["version"])
    assert versions == sorted(versions)
    assert versions[-1] == "2"
    assert '"model": "hippo@2"' in (server.state / "audit.log").read_text()
    assert server.stop() == 0
