"""`dicom-node list` and `retry` look at a node at work from another process, and change nothing."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from medseg_nca.cli.main import cli
from medseg_nca.errors import ConfigError
from medseg_nca.serving.jobs.deliveries import Deliveries
from medseg_nca.serving.jobs.records import Failure, new_id
from medseg_nca.serving.node.listing import note_state
from medseg_nca.serving.node.node import Node
from medseg_nca.serving.node.requests import take_requests
from medseg_nca.serving.node.routes import entries_of
from medseg_nca.serving.node.settings import NodeSettings
from tests.estimating import BAD
from tests.serving.node.desk import Clock, Desk


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """A node with a job that failed, a series that no rule takes, and one that arrives."""
    found = Desk(tmp_path, clock=Clock())
    note_state(tmp_path, found.store.state)
    found.send("a")
    found.clock.now += 1
    found.send("bb", modality="CT", study="b")
    (job,) = found.later(40)
    found.store.fail(job.id, Failure(422, "Slices are missing.", "Send all of them."))
    found.send("ccc", study="c", aet="OTHER")
    yield found
    found.close()


def run(*args: str) -> tuple[int, str]:
    result = CliRunner().invoke(cli, ["dicom-node", *args])
    return result.exit_code, " ".join(result.output.split())


def test_series_and_jobs_are_listed_with_their_reasons(desk: Desk) -> None:
    code, out = run("list", "--spool", str(desk.folder), "--json")
    assert code == 0, out
    tree = json.loads(out)
    assert [(one["state"], one["from"], one["reason"]) for one in tree["series"]] == [
        ("submitted", "SCANNER", ""),
        ("not taken", "SCANNER", "Rule 1 fails by Modality."),
        ("waiting", "OTHER", ""),
    ]
    (job,) = tree["jobs"]
    assert (job["state"], job["reason"]) == ("failed", "Slices are missing.")
    code, out = run("--spool", str(desk.folder), "list")
    assert code == 0
    assert "Slices are missing." in out


def test_a_retry_is_asked_of_the_node_that_is_at_work(desk: Desk) -> None:
    (job,) = desk.jobs
    for wrong in (new_id(), "../x"):
        code, out = run("retry", wrong, "--spool", str(desk.folder))
        assert (code, "is no job that failed" in out) == (2, True)
    assert run("retry", job.id, "--spool", str(desk.folder))[0] == 0
    assert run("retry", "--all", "--spool", str(desk.folder)) == (
        0, "1 to try again: the node is asked."
    )  # fmt: skip
    (desk.folder / "requests" / "junk.json").write_text('{"again": "../../x"}')
    asked: list[str | None] = []
    take_requests(desk.folder, asked.append)
    take_requests(desk.folder, asked.append)
    assert sorted(asked, key=str) == sorted([None, job.id], key=str)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root asks for another user")
def test_what_root_asks_is_for_the_user_of_the_node(desk: Desk) -> None:
    os.chown(desk.folder, 12345, 12345)
    assert run("retry", "--all", "--spool", str(desk.folder))[0] == 0
    folder = desk.folder / "requests"
    assert {path.stat().st_uid for path in (folder, *folder.iterdir())} == {12345}


def test_many_series_are_all_listed_with_their_states(desk: Desk) -> None:
    for number in range(1200):
        desk.ledger.called(f"{number:032x}", "OTHER")
    tree = json.loads(run("list", "--spool", str(desk.folder), "--json")[1])
    assert [one["state"] for one in tree["series"]] == ["submitted", "not taken", "waiting"]


def test_a_job_whose_series_is_gone_asks_for_it(desk: Desk) -> None:
    (job,) = desk.jobs
    (line,) = desk.ledger.submitted(job.id)
    assert desk.spool.remove(line.series, line.digest)
    code, out = run("retry", "--all", "--spool", str(desk.folder))
    assert code == 0
    assert f"{job.id}: its series has left the spool; send it again" in out


def test_a_spool_whose_jobs_are_elsewhere_is_refused(desk: Desk, tmp_path: Path) -> None:
    note_state(desk.folder, desk.store.state)
    other = tmp_path / "other"
    other.mkdir()
    with pytest.raises(ConfigError, match="the jobs of its series are in"):
        note_state(desk.folder, other)


def test_a_rejected_result_is_listed_as_held_until_somebody_delivers_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spool = tmp_path / "other"
    desk = Desk(spool, clock=Clock(), send_to=["PACS@127.0.0.1:104"], hold_rejected=True)
    note_state(spool, desk.store.state)
    desk.send("a")
    (job,) = desk.later(40)
    desk.compute(estimate=BAD.to_dict())
    desk.service.end(job.id)
    assert f"`medseg-nca dicom-node retry {job.id}` delivers it" in caplog.text
    (listed,) = json.loads(run("list", "--spool", str(spool), "--json")[1])["jobs"]
    assert (listed["state"], listed["verdict"], listed["delivery"]) == ("done", "reject", "held")
    assert run("retry", "--all", "--spool", str(spool))[1] == "0 to try again: the node is asked."
    assert run("retry", job.id, "--spool", str(spool))[0] == 0
    Deliveries(desk.store).ask(job.id, "PACS@127.0.0.1:104")
    (listed,) = json.loads(run("list", "--spool", str(spool), "--json")[1])["jobs"]
    assert listed["delivery"] == ""
    desk.close()


def test_only_a_held_result_that_is_named_is_delivered(tmp_path: Path) -> None:
    destination = "PACS@127.0.0.1:104"
    desk = Desk(tmp_path, clock=Clock(), send_to=[destination], hold_rejected=True)
    desk.send("a")
    (job,) = desk.later(40)
    desk.compute(estimate=BAD.to_dict())
    rule = f"Modality=MR -> {tmp_path / 'one'}"
    settings = NodeSettings(spool=tmp_path, route=(rule,), send_to=(destination,), on_reject="hold")
    deliveries, served = Deliveries(desk.store), entries_of(settings.routes)[1]
    node = Node(settings, desk.service, served, deliveries)
    node.again(None)
    assert deliveries.of(job.id) == []
    node.again(job.id)
    assert [one.destination for one in deliveries.of(job.id)] == [destination]
    node.stop()
    desk.close()
