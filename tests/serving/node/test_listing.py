"""`dicom-node list` and `retry` look at a node at work from another process, and change nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from medseg_nca.cli.main import cli
from medseg_nca.serving.jobs.records import Failure, new_id
from medseg_nca.serving.node.listing import note_state
from medseg_nca.serving.node.requests import take_requests
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
