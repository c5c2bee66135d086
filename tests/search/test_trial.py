"""A worker and the folder of its trial, without the training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NoReturn

import pytest
from optuna.trial import TrialState

from medseg_nca.config.loading import load_settings
from medseg_nca.errors import Interrupted
from medseg_nca.job import Job
from medseg_nca.pipelines import train
from medseg_nca.pipelines.search_trial import MARK, TrialPlan, TrialWork, folder_name
from medseg_nca.search import queue as queue_module
from medseg_nca.search.budget import budget_of, parse_budget
from medseg_nca.search.owner import Owner
from medseg_nca.search.queue import LOST, OWNER
from medseg_nca.search.space import parse_tune
from medseg_nca.search.storage import SearchStorage, SearchStorageError, storage_url
from medseg_nca.search.study import StudyFacts, join_study

SPACE = (parse_tune("training.lr=log:1e-4..1e-2"),)
ELSEWHERE = Owner("elsewhere", 1, 2.0)


def worker(out: Path, study: str) -> TrialWork:
    settings = load_settings(None, ["tracking.enabled=false"])
    space = {dim.key: dim.to_plain() for dim in SPACE}
    facts = StudyFacts("demo", "segmentation", "d", "s", 1, ("dice",), "5 iterations", space, {})
    storage = SearchStorage(storage_url(None, out))
    join_study(storage, study, facts, 1, {})
    plan = TrialPlan(
        storage_url(None, out), study, out, None, settings, (), SPACE, ("dice",), seed=0
    )
    return TrialWork(plan, storage, Job())


def stopped(*_: object, **__: object) -> NoReturn:
    raise Interrupted("Enough.")


def test_the_run_folder_of_another_study_is_not_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resumed = []

    def begun(data: object, folder: Path, *_: object, resume: bool, **__: Any) -> NoReturn:
        resumed.append(resume)
        (folder / "checkpoints").mkdir(exist_ok=True)
        (folder / "settings.yaml").touch()
        (folder / "checkpoints" / "last.pt").touch()
        raise Interrupted("Enough.")

    monkeypatch.setattr(train, "run", begun)
    for study in ("a", "b", "a"):
        with pytest.raises(Interrupted):
            worker(tmp_path, study).run_next()
    assert resumed == [False, False, True]
    (tmp_path / "search.db").unlink()  # the studies begin anew, in the folders of the old ones
    with pytest.raises(Interrupted):
        worker(tmp_path, "a").run_next()
    assert resumed[3:] == [False]
    mark = json.loads((tmp_path / "trials" / "a" / "0000" / MARK).read_text())
    assert (mark["study"], mark["trial"], list(mark["values"])) == ("a", 0, ["training.lr"])


def test_a_worker_leaves_a_trial_that_another_has_taken_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = worker(tmp_path, "a")

    def taken_over(*_: object, job: Job, **__: object) -> NoReturn:
        work.queue.note(0, OWNER, str(ELSEWHERE))
        while True:
            job.check()

    monkeypatch.setattr(queue_module, "BEAT", 0.05)
    monkeypatch.setattr(train, "run", taken_over)
    assert work.run_next() == 0
    assert not work.job.cancelled
    assert work.queue.owner_of(0) == ELSEWHERE
    assert work.run_next() is None


def test_a_storage_that_was_away_counts_as_no_killed_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(*_: object, **__: object) -> NoReturn:
        raise SearchStorageError("The storage does not answer.")

    work = worker(tmp_path, "a")
    monkeypatch.setattr(train, "run", offline)
    with pytest.raises(SearchStorageError):
        work.run_next()
    assert work.queue.trials()[0].state == TrialState.RUNNING
    monkeypatch.setattr(Owner, "is_alive", property(lambda _: False))
    assert len(work.queue.rescue()) == 1
    assert work.queue.trials()[0].user_attrs[LOST] == 1
    monkeypatch.setattr(train, "run", stopped)
    with pytest.raises(Interrupted):
        work.run_next()
    assert work.queue.trials()[0].user_attrs[LOST] == 0


def test_studies_have_folders_of_their_own() -> None:
    assert folder_name("hippocampus_m3d") == "hippocampus_m3d"
    names = [folder_name(name) for name in ("../x", "/x", "x/", "..", "", "a" * 90, "ä", "CON:")]
    assert len(set(names)) == len(names)
    assert all(Path(name).name == name and len(name) <= 50 for name in names)


@pytest.mark.parametrize(("text", "words"), [("90s", "90 seconds"), ("50", "50 iterations")])
def test_a_budget_is_told_in_its_own_unit(text: str, words: str) -> None:
    assert budget_of(parse_budget(text).applied(load_settings(None))) == words
