"""What goes, and what has to stay because nobody else has it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from medseg_nca.serving.jobs.deliveries import Deliveries
from medseg_nca.serving.jobs.records import Failure
from tests.serving.node.desk import Clock, Desk

DAY = 86400.0
ARCHIVE = "ARCHIVE@10.0.0.1:104"


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """A node that keeps nothing, and sends to an archive."""
    with closing(Desk(tmp_path, clock=Clock(), keep=0.0, send_to=(ARCHIVE,))) as found:
        yield found


def test_a_result_that_was_given_up_can_be_sent_again(desk: Desk) -> None:
    """The archive was down for longer than the results of a job are kept."""
    desk.send("a")
    (job,) = desk.later(31)
    desk.compute()
    deliveries = Deliveries(desk.store)
    delivery = deliveries.next(ARCHIVE)
    assert delivery is not None
    with desk.store.transaction() as database:
        database.execute("UPDATE jobs SET finished = finished - ?", (3 * DAY,))
    deliveries.end(delivery, "failed", "It cannot be reached.")
    desk.retention.sweep()
    assert not desk.spool.series()
    assert desk.store.sweep(DAY, 10**9) == 0
    assert desk.store.sweep(DAY, 0) == 0
    deliveries.ask(job.id, ARCHIVE)
    assert len(list(desk.store.folder(job.id).rglob("*.dcm"))) == 1
    delivery = deliveries.next(ARCHIVE)
    assert delivery is not None
    deliveries.end(delivery, "stored")
    assert desk.store.sweep(DAY, 10**9) == 1


def test_a_series_is_kept_for_a_day_where_its_model_failed(desk: Desk) -> None:
    """An image that is wrong is not tried again, and goes at once."""
    for name, status in (("a", 503), ("bb", 422)):
        desk.send(name, study=name)
        job = desk.later(31)[-1]
        desk.store.fail(job.id, Failure(status, "No."))
    desk.retention.sweep()
    (kept,) = desk.spool.series()
    desk.ledger.again(desk.ledger.submitted(desk.jobs[0].id)[0])
    desk.arrivals.look_again(kept.key)
    assert [job.state for job in desk.later(1)] == ["failed", "queued"]
    desk.store.fail(desk.jobs[-1].id, Failure(503, "No."))
    desk.clock.now += DAY
    desk.retention.sweep()
    assert not desk.spool.series()


def test_late_images_say_that_those_before_were_removed(desk: Desk) -> None:
    desk.send("a", slice(0, 3))
    desk.later(31)
    desk.compute()
    deliveries = Deliveries(desk.store)
    delivery = deliveries.next(ARCHIVE)
    assert delivery is not None
    deliveries.end(delivery, "stored")
    desk.retention.sweep()
    assert not desk.spool.series()
    desk.send("a", slice(3, 4))
    assert [one.options.note for one in desk.later(31)] == ["", "version 2, earlier images removed"]
    desk.send("a", slice(4, 5))
    assert desk.later(31)[-1].options.note == "version 3, earlier images removed"
