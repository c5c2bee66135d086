"""The contract of long work: reports go up, cancelling comes down."""

from __future__ import annotations

import threading

import pytest

from medseg_nca.errors import Interrupted
from medseg_nca.job import Job, Meter, Progress, in_one_line


def test_parts_of_parts_add_up_to_the_whole() -> None:
    heard: list[Progress] = []
    job = Job(heard.append)
    for outer in range(2):
        for inner in range(3):
            part = job.part(outer, 2).part(inner, 3)
            for done in (1, 2):
                part.report("passes", done, 2)
    assert [one.done for one in heard] == list(range(1, 13))
    assert {one.total for one in heard} == {12}


def test_who_cancels_the_whole_cancels_its_parts() -> None:
    job = Job()
    part = job.part(1, 2)
    assert part.reason is None
    thread = threading.Thread(target=job.cancel, args=("The time is up.",))
    thread.start()
    thread.join()
    assert part.cancelled
    assert part.reason == "The time is up."
    with pytest.raises(Interrupted, match="The time is up"):
        part.check()
    with pytest.raises(Interrupted):
        part.report("passes", 1, 2)


def test_a_job_that_was_cancelled_is_told_nothing() -> None:
    heard: list[Progress] = []
    job = Job(heard.append)
    job.cancel()
    with pytest.raises(Interrupted):
        job.report("passes", 1, 2)
    assert not heard


def test_a_meter_never_goes_back_and_ends_at_its_total() -> None:
    heard: list[int] = []
    meter = Meter(Job(lambda progress: heard.append(progress.done)), "steps", 10)
    meter.advance(4)
    meter.reach(3)
    meter.advance(20)
    assert heard == [4, 4, 10]


def test_a_silent_job_is_heard_by_nobody_and_cancelled_with_the_whole() -> None:
    heard: list[Progress] = []
    job = Job(heard.append)
    job.silent().report("passes", 1, 2)
    assert not heard
    job.cancel("The time is up.")
    with pytest.raises(Interrupted, match="The time is up"):
        job.silent().check()


def test_who_waits_in_compiled_code_is_told_once_and_only_while_it_waits() -> None:
    told: list[str] = []
    job = Job()
    with job.when_cancelled(lambda: told.append("before")):
        assert not told
    with job.part(0, 2).when_cancelled(lambda: told.append("while")):
        job.cancel()
    assert told == ["while"]
    with job.when_cancelled(lambda: told.append("after")):
        assert told == ["while", "after"]


def test_a_thread_knows_the_job_that_it_works_for() -> None:
    outer, inner = Job(), Job()
    seen: list[Job | None] = []
    with outer.at_work():
        with inner.at_work():
            assert Job.current() is inner
        assert Job.current() is outer
        thread = threading.Thread(target=lambda: seen.append(Job.current()))
        thread.start()
        thread.join()
    assert Job.current() is None
    assert seen == [None]


def test_a_notebook_shows_one_line_that_is_written_over(capsys: pytest.CaptureFixture[str]) -> None:
    job = Job(in_one_line)
    job.report("reading", 1, 2, unit="cases", facts={"loss": 0.25, "failed": 0})
    job.report("fetching", 3, None)
    _, first, second = capsys.readouterr().out.split("\r")
    assert first.rstrip() == "reading 1 of 2 cases, loss 0.25"
    assert second.rstrip() == "fetching 3"
    assert len(first) == len(second)  # the shorter line covers the longer one
