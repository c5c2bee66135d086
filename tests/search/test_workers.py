"""A search in several processes, of which one is killed."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from optuna.trial import TrialState

from medseg_nca.datasets.adapters.phantom import write_phantom
from medseg_nca.search.queue import LOST
from medseg_nca.search.storage import storage_url
from tests.search.commands import kill_a_worker, start, trials, wait_for


@pytest.mark.slow
def test_a_killed_worker_and_a_stopped_search_lose_no_trial(tmp_path: Path) -> None:
    data = write_phantom(tmp_path / "data", 6, dims=2, size=(16, 16))
    out = tmp_path / "search"
    words = ("--budget", 20, "--trials", 3)
    url = storage_url(None, out)

    with start(data, out, *words, "--workers", 2) as first:
        number = kill_a_worker(first, url)
        wait_for(first, url, TrialState.COMPLETE)
        first.send_signal(signal.SIGINT)
        said = first.communicate()[1]
    assert first.returncode == 130, said
    assert "same command goes on from here" in said
    assert f"The worker of trial {number} is gone" in said
    kept = {t.number: (t.params, t.values) for t in trials(url) if t.state.is_finished()}
    begun = {t.number: t.params for t in trials(url) if t.params}
    assert kept

    with start(data, out, *words) as again:
        said = again.communicate()[1]
    assert again.returncode == 0, said
    ended = trials(url)
    assert [trial.number for trial in ended] == list(range(3))
    assert {trial.state for trial in ended} <= {TrialState.COMPLETE, TrialState.PRUNED}
    assert {n: (ended[n].params, ended[n].values) for n in kept} == kept
    assert {n: ended[n].params for n in begun} == begun
    assert ended[number].user_attrs[LOST] == 1
    assert (out / "report.html").is_file()
