"""Jobs survive whatever ends the server: none is lost, none is computed into two results."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from medseg_nca.errors import ConfigError
from medseg_nca.serving.jobs.deliveries import Deliveries
from medseg_nca.serving.jobs.records import Failure, JobOptions, JobRecord, is_id, new_id
from medseg_nca.serving.jobs.store import INPUT, OUTPUT, RESULT, JobStore


def add(store: JobStore, most: int | None = None, **how: Any) -> JobRecord | None:
    received = store.incoming / new_id()
    received.mkdir()
    (received / "file_00001.png").write_bytes(b"x" * 10)
    options = JobOptions(objects=("sr",), **how)
    return store.add(new_id(), received, options, owner="ann", model="m", most=most)


def added(store: JobStore) -> JobRecord:
    job = add(store)
    assert job is not None
    return job


def made(store: JobStore, job: JobRecord) -> None:
    """What a worker leaves."""
    folder = store.attempt_folder(job)
    folder.mkdir()
    (folder / RESULT).write_text(json.dumps({"seconds": 1.5}))


def test_a_job_is_computed_in_its_turn_and_kept(tmp_path: Path) -> None:
    store = JobStore(tmp_path)
    first, second = added(store), added(store)
    assert (store.position(first), store.position(second)) == (1, 2)
    claimed = store.claim()
    assert claimed is not None
    assert (claimed.id, claimed.state, claimed.attempts) == (first.id, "running", 1)
    assert store.position(second) == 1
    made(store, claimed)
    assert store.finish(claimed)
    store.close()

    store = JobStore(tmp_path)
    found = store.get(first.id)
    assert found is not None
    assert (found.state, found.result) == ("done", {"seconds": 1.5})
    assert found.options == JobOptions(objects=("sr",))
    assert not (store.folder(first.id) / INPUT).exists()  # an image is not kept longer than needed
    waits = store.claim()
    assert waits is not None
    assert waits.id == second.id
    store.close()


def test_a_job_at_work_is_tried_once_more_and_in_its_place(tmp_path: Path) -> None:
    store = JobStore(tmp_path)
    first, second = added(store), added(store)
    for attempt in (1, 2):
        claimed = store.claim()
        assert claimed is not None
        assert (claimed.id, claimed.attempts) == (first.id, attempt)
        store.close()  # the server was killed
        store = JobStore(tmp_path)
        (again,) = store.recover()
        assert again.id == first.id
    assert again.state == "failed"
    assert again.failure is not None
    assert again.failure.status == 503
    assert [job.id for job in (store.claim(),) if job] == [second.id]
    store.close()


def test_a_job_may_be_asked_to_see_more_kills_of_the_server(tmp_path: Path) -> None:
    store = JobStore(tmp_path)
    first, _ = add(store, attempts=4), add(store, attempts=4)
    assert first is not None
    begun = []
    for _ in range(7):
        claimed = store.claim()
        assert claimed is not None
        begun.append((claimed.id == first.id, claimed.attempts))
        store.close()  # the server was killed
        store = JobStore(tmp_path)
        (again,) = store.recover()
    # From its second attempt on a job stands behind those that it may keep from their end.
    assert begun == [(True, 1), (True, 2), (False, 1), (False, 2), (True, 3), (False, 3), (True, 4)]
    assert again.failure is not None
    assert "4 times" in again.failure.detail
    store.close()


def test_a_result_that_was_whole_when_the_server_was_killed_is_not_made_again(
    tmp_path: Path,
) -> None:
    store = JobStore(tmp_path)
    added(store)
    claimed = store.claim()
    assert claimed is not None
    made(store, claimed)
    store.attempt_folder(claimed).rename(store.folder(claimed.id) / OUTPUT)
    store.close()
    store = JobStore(tmp_path)
    (found,) = store.recover()
    assert (found.state, found.attempts) == ("done", 1)
    assert store.claim() is None
    store.close()


def test_a_result_is_found_again_where_the_database_forgot_that_its_job_was_begun(
    tmp_path: Path,
) -> None:
    """As after a loss of power: neither the beginning nor the end of a job waits for the disk."""
    store = JobStore(tmp_path)
    added(store)
    other = added(store)
    claimed = store.claim()
    assert claimed is not None
    made(store, claimed)
    store.attempt_folder(claimed).rename(store.folder(claimed.id) / OUTPUT)
    shutil.rmtree(store.folder(claimed.id) / INPUT)
    store.put_back(claimed, counts=False)
    store.close()
    store = JobStore(tmp_path)
    (found,) = store.recover()
    assert (found.id, found.state) == (claimed.id, "done")
    assert [job.id for job in (store.claim(),) if job] == [other.id]
    store.close()


def test_what_a_killed_server_left_half_received_is_removed(tmp_path: Path) -> None:
    store = JobStore(tmp_path)
    (store.incoming / "half").mkdir()
    (store.incoming / "half.zip").write_bytes(b"PK")
    (store.jobs / new_id() / INPUT).mkdir(parents=True)  # moved, and not yet in the database
    kept = added(store)
    store.recover()
    assert not list(store.incoming.iterdir())
    assert [folder.name for folder in store.jobs.iterdir()] == [kept.id]
    store.close()


@pytest.mark.parametrize("content", ["", '{"seconds": 1', "[]"])
def test_a_result_that_is_not_whole_is_made_again(tmp_path: Path, content: str) -> None:
    store = JobStore(tmp_path)
    added(store)
    claimed = store.claim()
    assert claimed is not None
    output = store.folder(claimed.id) / OUTPUT
    output.mkdir()
    (output / RESULT).write_text(content)
    store.close()  # power was lost
    store = JobStore(tmp_path)
    (found,) = store.recover()
    assert found.state == "queued"
    again = store.claim()
    assert again is not None
    made(store, again)
    assert store.finish(again)
    found = store.get(again.id)  # type: ignore[assignment]
    assert found.result == {"seconds": 1.5}
    store.close()


@pytest.mark.parametrize(("status", "state"), [(409, "cancelled"), (504, "failed")])
def test_a_job_at_work_that_was_cancelled_is_not_computed_again(
    tmp_path: Path, status: int, state: str
) -> None:
    store = JobStore(tmp_path)
    job, other = added(store), added(store)
    assert store.claim() is not None
    store.leave(job.id, Failure(status, "Not wanted."))
    store.close()  # the server was killed
    store = JobStore(tmp_path)
    (found,) = store.recover()
    assert (found.id, found.state) == (job.id, state)
    assert found.failure == Failure(status, "Not wanted.")
    assert [one.id for one in (store.claim(),) if one] == [other.id]
    store.close()


def test_which_series_was_chosen_is_forgotten_when_a_job_ends(tmp_path: Path) -> None:
    store = JobStore(tmp_path)
    jobs = []
    for _ in range(3):
        received = store.incoming / new_id()
        received.mkdir()
        options = JobOptions(select="PatientID=CANARY-4711", objects=("sr",))
        job = store.add(new_id(), received, options, owner="ann", model="m")
        assert job is not None
        jobs.append(job.id)
    done = store.claim()
    assert done is not None
    assert done.options.select
    made(store, done)
    store.finish(done)
    store.fail(jobs[1], Failure(500, "Broken."))
    store.cancel_queued(jobs[2], Failure(409, "Cancelled."))
    assert [job.options for job in store.newest()] == [JobOptions(objects=("sr",))] * 3
    store.close()
    assert b"CANARY" not in (tmp_path / "jobs.sqlite").read_bytes()


def test_the_queue_takes_no_more_than_its_most(tmp_path: Path) -> None:
    store = JobStore(tmp_path)
    assert [add(store, most=2) is None for _ in range(3)] == [False, False, True]
    assert store.count("queued") == 2
    store.close()


def test_a_job_that_has_ended_stays_as_it_is(tmp_path: Path) -> None:
    store = JobStore(tmp_path)
    job = added(store)
    assert store.cancel_queued(job.id, Failure(409, "Cancelled."))
    assert not store.fail(job.id, Failure(500, "Broken."))
    found = store.get(job.id)
    assert found is not None
    assert (found.state, found.failure) == ("cancelled", Failure(409, "Cancelled."))
    assert store.claim() is None
    store.close()


def test_an_attempt_that_the_server_gave_up_does_not_count(tmp_path: Path) -> None:
    store = JobStore(tmp_path)
    added(store)
    for _ in range(3):
        claimed = store.claim()
        assert claimed is not None
        assert claimed.attempts == 1
        store.put_back(claimed, counts=False)
    store.close()


@pytest.mark.parametrize(("age", "most", "left"), [(-1, 10**9, 0), (60, 10**9, 2), (60, 1, 0)])
def test_old_jobs_and_too_many_bytes_are_swept(
    tmp_path: Path, age: float, most: int, left: int
) -> None:
    store = JobStore(tmp_path)
    for _ in range(2):
        added(store)
        claimed = store.claim()
        assert claimed is not None
        made(store, claimed)
        store.finish(claimed)
    waits = added(store)
    time.sleep(0.01)
    assert store.sweep(age, most) == 2 - left
    assert len(store.newest()) == left + 1
    assert {folder.name for folder in store.jobs.iterdir()} == {job.id for job in store.newest()}
    assert store.get(waits.id) is not None  # what waits is never swept
    store.close()


def test_which_series_was_chosen_is_not_in_the_journal_either(tmp_path: Path) -> None:
    store = JobStore(tmp_path)
    received = store.incoming / new_id()
    received.mkdir()
    options = JobOptions(select="PatientID=CANARY-4711")
    job = store.add(new_id(), received, options, owner="ann", model="m")
    assert job is not None
    assert b"CANARY" in (tmp_path / "jobs.sqlite-wal").read_bytes()
    store.fail(job.id, Failure(500, "Broken."))
    store.sweep(60.0, 10**9)  # as once a minute
    for path in tmp_path.glob("jobs.sqlite*"):
        assert b"CANARY" not in path.read_bytes(), path.name
    store.close()


def test_what_is_to_be_stored_is_kept_but_not_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that was started without its archive never stores what waited."""
    store = JobStore(tmp_path)
    job = added(store)
    claimed = store.claim()
    assert claimed is not None
    made(store, claimed)
    store.finish(claimed)
    Deliveries(store).ask(job.id)
    assert store.sweep(-1.0, 10**9) == 0
    later = time.time() + 3 * 86400.0
    monkeypatch.setattr(time, "time", lambda: later)
    store.senders = ("pacs",)  # its sender ends it, also where the clock has made a leap
    assert store.sweep(60.0, 10**9) == 0
    store.senders = ()
    assert store.sweep(60.0, 10**9) == 1
    store.close()


def test_two_servers_do_not_share_a_folder(tmp_path: Path) -> None:
    store = JobStore(tmp_path)
    with pytest.raises(ConfigError, match="another server"):
        JobStore(tmp_path)
    store.close()
    JobStore(tmp_path).close()


def test_ids_are_random_and_nothing_else_is_one() -> None:
    assert len({new_id() for _ in range(1000)}) == 1000
    assert all(is_id(new_id()) for _ in range(100))
    for text in ("", ".", "..", "../../../../etc/passwd", "a" * 23, "a" * 21 + "/", "ä" * 22):
        assert not is_id(text)


@pytest.mark.parametrize("end", ["done", "failed", "cancelled", "killed"])
def test_a_text_that_may_name_a_patient_is_in_no_file_after_the_job(
    tmp_path: Path, end: str
) -> None:
    """Neither in the database nor in its write-ahead log, where earlier changes stay."""
    store = JobStore(tmp_path)
    received = store.incoming / new_id()
    received.mkdir()
    options = JobOptions(kind="dicom", select="PatientID=ZYX-4711")
    assert store.add(new_id(), received, options, owner="ann", model="m") is not None
    held = [path.name for path in tmp_path.glob("jobs.sqlite*") if b"ZYX" in path.read_bytes()]
    assert held  # the job needs it
    if end == "cancelled":
        (job,) = store.newest()
        assert store.cancel_queued(job.id, Failure(409, "The job was cancelled."))
    else:
        claimed = store.claim()
        assert claimed is not None
        if end == "killed":
            store.close()  # and the next server finds it, and tries it again
            store = JobStore(tmp_path)
            store.recover()
            claimed = store.claim()
            assert claimed is not None
            assert claimed.options.select == options.select
        if end == "failed":
            store.fail(claimed.id, Failure(422, "The image is empty."))
        else:
            made(store, claimed)
            assert store.finish(claimed)
    for path in tmp_path.glob("jobs.sqlite*"):
        assert b"ZYX" not in path.read_bytes(), path.name
    store.close()
