"""Each content of a series becomes its jobs once, whatever is sent again, killed or swept."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from medseg_nca.serving.jobs.records import Failure, is_id
from medseg_nca.serving.jobs.store import INPUT
from tests.io.dicom.build import classic, pixels
from tests.serving.node.desk import HALF, Clock, Desk

Opener = Callable[..., Desk]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Opener]:
    """Start a node, the one before it being killed."""
    desks: list[Desk] = []
    clock = Clock()

    def start(*rules: str, **how: Any) -> Desk:
        for desk in desks:
            desk.close()
        desks[:] = [Desk(tmp_path, *rules, clock=clock, **how)]
        return desks[0]

    yield start
    for desk in desks:
        desk.close()


def test_a_series_that_is_quiet_becomes_a_job(opened: Opener) -> None:
    desk = opened()
    desk.send("a")
    assert not desk.later(29)
    (job,) = desk.later(2)
    assert (job.state, job.owner, job.model) == ("queued", "node:SCANNER", "one")
    assert is_id(job.id)
    assert (job.options.kind, job.options.objects, job.options.note) == (
        "dicom",
        ("dicom-seg",),
        "",
    )
    assert len(list((desk.store.folder(job.id) / INPUT).iterdir())) == 5
    assert len(desk.later(3600)) == 1


def test_what_comes_later_is_a_version_more(opened: Opener) -> None:
    desk = opened()
    desk.send("a", HALF)
    (first,) = desk.later(31)
    desk.compute()
    desk.clock.now += 3600
    desk.send("a")
    assert len(desk.later(5)) == 1
    _, second = desk.later(31)
    assert (first.options.note, second.options.note) == ("", "version 2")
    assert len(list((desk.store.folder(second.id) / INPUT).iterdir())) == 5
    desk.send("a", HALF)  # once more what is there already
    assert len(desk.later(100)) == 2


def test_interleaved_series_studies_and_patients_are_told_by_their_uids(opened: Opener) -> None:
    desk = opened()
    for _ in range(2):
        for series, study, patient in (("a", "x", "1"), ("b", "x", "1"), ("c", "y", "2")):
            desk.send(series, HALF, study=study, PatientID=patient, SeriesNumber="4")
    desk.send("b", study="x", PatientID="1", SeriesNumber="4")
    jobs = desk.later(31)
    sizes = sorted(len(list((desk.store.folder(job.id) / INPUT).iterdir())) for job in jobs)
    assert sizes == [3, 3, 5]
    assert len({job.series for job in jobs}) == 3


def test_a_rule_with_two_models_makes_two_jobs(opened: Opener, tmp_path: Path) -> None:
    desk = opened(f"-> {tmp_path / 'one'},{tmp_path / 'two'}")
    desk.send("a")
    assert [job.model for job in desk.later(31)] == ["one", "two"]


def test_a_kill_between_any_two_steps_makes_no_second_job(opened: Opener, tmp_path: Path) -> None:
    rule = f"-> {tmp_path / 'one'},{tmp_path / 'two'}"
    opened(rule).send("a")
    desk = opened(rule, queue=1)  # killed before anything was decided
    assert [job.model for job in desk.later(31)] == ["one"]  # and before the second job
    shutil.copytree(desk.store.folder(desk.jobs[0].id), desk.store.jobs / "left")
    desk = opened(rule)
    desk.store.recover()
    assert [job.model for job in desk.later(1)] == ["one", "two"]
    desk = opened(rule)
    assert len(desk.later(1)) == 2
    desk.compute()
    for job in desk.jobs:
        desk.store.remove(job.id)  # swept, while the series is still there
    assert not opened(rule).later(3600)


def test_rules_that_change_compute_nothing_again(opened: Opener, tmp_path: Path) -> None:
    desk = opened()
    desk.send("a")
    desk.send("b", modality="CT")
    assert len(desk.later(31)) == 1
    desk = opened(f"Modality=MR -> {tmp_path / 'two'}", f"Modality=CT -> {tmp_path / 'two'}")
    assert [job.model for job in desk.later(1)] == ["one", "two"]  # the CT, which no rule took


def test_a_full_queue_lets_series_wait(opened: Opener) -> None:
    desk = opened(queue=1)
    desk.send("a")
    desk.send("bb", study="b")
    assert len(desk.later(31)) == 1
    assert desk.arrivals.waiting == 1
    desk.compute()
    assert len(desk.later(1)) == 2
    assert desk.arrivals.waiting == 0


def test_a_series_that_no_rule_takes_is_noted_once(opened: Opener) -> None:
    desk = opened()
    key = desk.send("a", modality="CT", SeriesDescription="Zorrofake")
    assert not desk.later(31)
    note = desk.ledger.of_series(key)
    assert (note.outcome, note.reason) == ("not taken", "Rule 1 fails by Modality.")
    opened().later(1)
    log = desk.audit.path.read_text()
    assert log.count('"outcome": "not taken"') == 1
    assert "Zorrofake" not in log


def test_a_count_ends_a_series_at_once_where_it_is_asked(opened: Opener) -> None:
    images = classic(pixels(), modality="MR", series="a", ImagesInAcquisition=5)
    desk = opened(expect_count="ImagesInAcquisition")
    desk.take(images[:4])
    assert not desk.later(1)
    desk.take(images)
    assert len(desk.later(0)) == 1


def test_damaged_files_become_a_job_that_fails_with_its_reason(opened: Opener) -> None:
    desk = opened("-> zoo:hippocampus")
    (path,) = desk.folder.glob("one/model.json")
    with path.open("rb") as stream:
        desk.arrivals.arrived(desk.spool.keep(stream, "1.2", "1.2.3", "1.2.3.4").key, "X")
    desk.clock.now = path.stat().st_mtime + 10**9
    (job,) = desk.later(31)
    assert job.state == "queued"


def test_a_job_without_a_result_may_be_made_once_more(opened: Opener) -> None:
    desk = opened()
    desk.send("a")
    (job,) = desk.later(31)
    line = desk.ledger.job(job.id)
    assert line is not None
    desk.ledger.again(line)  # it waits: nothing happens
    assert desk.store.get(job.id) is not None
    desk.store.fail(job.id, Failure(503, "The worker died."))
    desk.ledger.again(line)
    desk.arrivals.arrived(line.series, "SCANNER")
    (again,) = desk.later(1)
    assert (again.id, again.state, again.number > job.number) == (job.id, "queued", True)


def test_series_and_results_go_after_their_time(opened: Opener) -> None:
    desk = opened(keep=1.0)
    key = desk.send("a")
    desk.later(31)
    desk.clock.now += 2 * 86400
    desk.retention.sweep()
    assert desk.spool.find(key) is not None  # its job has not ended
    desk.compute()
    desk.retention.sweep()
    assert desk.spool.find(key) is None
    assert not desk.ledger.jobs(key)


def test_without_keeping_nothing_stays_and_a_redelivery_is_known(opened: Opener) -> None:
    desk = opened(keep=0.0)
    key = desk.send("a")
    (job,) = desk.later(31)
    desk.compute()
    desk.retention.sweep()
    assert desk.spool.find(key) is None
    assert not list(desk.store.folder(job.id).rglob("*.dcm"))
    desk.send("a")
    assert len(desk.later(31)) == 1
    desk.retention.sweep()
    assert desk.spool.find(key) is None
