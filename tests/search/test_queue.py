"""Trials are shared out, put back and told as a storage on the disk has them."""

from __future__ import annotations

import multiprocessing
import os
import sqlite3
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.pruners import MedianPruner, NopPruner
from optuna.trial import Trial, TrialState, create_trial

from medseg_nca.errors import ConfigError
from medseg_nca.job import Progress
from medseg_nca.pipelines.search_curve import Curve
from medseg_nca.search.owner import LifeWatch, Owner
from medseg_nca.search.queue import LOST, MOST_LOST, TrialQueue
from medseg_nca.search.results import pareto_front
from medseg_nca.search.storage import SearchStorage, SearchStorageError, storage_url
from medseg_nca.search.study import StudyFacts, find_study, join_study, study_for_trial

LR = {"training.lr": {"log": [1e-4, 1e-2]}}
FACTS = StudyFacts("demo", "segmentation", "d1", "s1", 1, ("dice",), "5 iterations", LR, {"a": 1})


@pytest.fixture
def storage(tmp_path: Path) -> SearchStorage:
    return SearchStorage(storage_url(None, tmp_path))


def dead_owner() -> Owner:
    """A process of this machine that has ended."""
    done = subprocess.Popen([sys.executable, "-c", "pass"])
    owner = Owner.of(done.pid)
    done.wait()
    return owner


def taken_by(folder: str) -> list[int]:
    """Take trials until none waits, as a worker process does."""
    queue = TrialQueue(SearchStorage(storage_url(None, Path(folder))), "demo")
    numbers, owner = [], Owner.of_this_process()
    while (trial := queue.take(owner)) is not None:
        numbers.append(trial.number)
    return numbers


def test_two_processes_never_take_the_same_trial(storage: SearchStorage, tmp_path: Path) -> None:
    join_study(storage, "demo", FACTS, 40, {})
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        found = list(pool.map(taken_by, [str(tmp_path)] * 2))
    assert sorted(found[0] + found[1]) == list(range(40))


def test_a_trial_of_a_dead_worker_waits_again_with_its_values(storage: SearchStorage) -> None:
    join_study(storage, "demo", FACTS, 2, {})
    queue = TrialQueue(storage, "demo")
    dead = dead_owner()
    taken = queue.take(dead)
    assert taken is not None
    trial = Trial(study_for_trial(storage, "demo", 0, 0), queue.id_of(0))
    drawn = trial.suggest_float("training.lr", 1e-4, 1e-2, log=True)
    assert [lost.number for lost in queue.rescue()] == [0]
    assert queue.rescue() == []
    again = queue.take(Owner.of_this_process())
    assert again is not None
    assert again.number == 0
    assert queue.rescue() == []
    trial = Trial(study_for_trial(storage, "demo", 5, 0), queue.id_of(0))
    assert trial.suggest_float("training.lr", 1e-4, 1e-2, log=True) == drawn


def test_a_trial_that_kills_its_workers_fails_at_last(storage: SearchStorage) -> None:
    join_study(storage, "demo", FACTS, 1, {})
    queue, dead = TrialQueue(storage, "demo"), dead_owner()
    for _ in range(MOST_LOST):
        assert queue.take(dead) is not None
        queue.rescue()
    (trial,) = queue.trials()
    assert trial.state == TrialState.FAIL
    assert "memory" in trial.user_attrs["error"]
    assert queue.take(dead) is None


def test_a_worker_of_another_machine_is_dead_after_a_minute_without_a_sign() -> None:
    now = 0.0
    watch = LifeWatch(grace=60, clock=lambda: now)
    other = Owner("elsewhere", 1, 2.0)
    assert not watch.is_dead(0, other, 1)
    now = 59
    assert not watch.is_dead(0, other, 1)
    assert not watch.is_dead(0, other, 2)
    now = 118
    assert not watch.is_dead(0, other, 2)
    now = 120
    assert watch.is_dead(0, other, 2)
    assert not watch.is_dead(0, Owner.of_this_process(), 2)
    assert watch.is_dead(0, dead_owner(), 2)
    # Another process may have got the same number since.
    assert watch.is_dead(0, replace(Owner.of_this_process(), started=1.0), 2)
    assert not watch.is_dead(1, None, None)


def test_a_trial_that_another_process_put_back_and_took_is_left_alone(
    storage: SearchStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    join_study(storage, "demo", FACTS, 1, {})
    first, late, dead = TrialQueue(storage, "demo"), TrialQueue(storage, "demo"), dead_owner()
    assert first.take(dead) is not None
    old = late.trials()
    assert len(first.rescue()) == 1
    own = Owner.of_this_process()
    taken = first.take(own)
    assert taken is not None
    monkeypatch.setattr(late, "trials", lambda: old)
    assert late.rescue() == []
    assert not late.put_back(taken, dead)
    assert first.owner_of(0) == own
    assert first.trials()[0].user_attrs[LOST] == 1
    assert first.put_back(taken, own)
    assert first.state().waiting == 1


def test_two_commands_that_add_trials_together_add_no_more_than_asked(
    storage: SearchStorage, tmp_path: Path
) -> None:
    join_study(storage, "demo", FACTS, 2, {})
    others = [SearchStorage(storage_url(None, tmp_path)) for _ in range(2)]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda other: join_study(other, "demo", FACTS, 12, {}), others))
    queue = TrialQueue(storage, "demo")
    queue.study.enqueue_trial({})  # what the slower of two commands may add
    assert queue.state().total == queue.state().waiting == 12
    own, taken = Owner.of_this_process(), []
    while (trial := queue.take(own)) is not None:
        taken.append(trial.number)
    assert taken == list(range(12))


@pytest.mark.parametrize("objective", ["latency_ms", "parameters"])
def test_only_a_search_for_the_score_prunes_by_its_curve(
    objective: str, storage: SearchStorage
) -> None:
    join_study(storage, "score", FACTS, 1, {})
    join_study(storage, "cost", replace(FACTS, objectives=(objective,)), 1, {})
    assert isinstance(study_for_trial(storage, "score", 0, 0).pruner, MedianPruner)
    assert isinstance(study_for_trial(storage, "cost", 0, 0).pruner, NopPruner)


@pytest.mark.parametrize(
    ("told", "by_time", "steps"),
    [(True, False, [28, 33]), (True, True, [20, 30]), (False, True, [])],
)
def test_curves_of_a_budget_of_time_have_equal_steps(
    told: bool, by_time: bool, steps: list[int], storage: SearchStorage
) -> None:
    join_study(storage, "demo", FACTS, 1, {})
    queue = TrialQueue(storage, "demo")
    assert queue.take(Owner.of_this_process()) is not None
    trial = Trial(study_for_trial(storage, "demo", 0, 0), queue.id_of(0))
    curve = Curve(trial, storage, 0, told, by_time)
    for done in (280, 334):
        curve.listen(Progress("training", done, 1000, facts={"val_dice": 0.5}))
    assert sorted(queue.trials()[0].intermediate_values) == steps


def test_an_owner_survives_its_text() -> None:
    own = Owner.of_this_process()
    found = Owner.parsed(str(own))
    assert found == own
    assert (found.process, found.is_here, found.is_alive) == (os.getpid(), True, True)
    assert Owner.parsed("") is None


def test_a_study_grows_and_is_the_same_for_whoever_joins(storage: SearchStorage) -> None:
    assert join_study(storage, "demo", FACTS, 3, {"training.lr": 0.003})
    assert not join_study(storage, "demo", FACTS, 3, {"training.lr": 0.003})
    assert not join_study(storage, "demo", FACTS, 5, {"training.lr": 0.003})
    queue = TrialQueue(storage, "demo")
    assert queue.state().waiting == queue.state().total == 5
    trial = Trial(study_for_trial(storage, "demo", 0, 0), queue.id_of(0))
    assert trial.suggest_float("training.lr", 1e-4, 1e-2, log=True) == 0.003


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"data_sha256": "d2"}, "another data set"),
        ({"split_sha256": "s2"}, "another split"),
        ({"objectives": ("dice", "parameters")}, "other objectives"),
        ({"budget": "6 iterations"}, "another budget"),
        ({"folds": 2}, "folds"),
        ({"space": {"training.lr": {"log": [1e-4, 1e-3]}}}, "another space: training.lr.log"),
        ({"settings": {"a": 2}}, "other settings: a is 1 there, and 2 here"),
    ],
)
def test_another_study_is_refused_by_name(
    changes: dict[str, object], words: str, storage: SearchStorage
) -> None:
    join_study(storage, "demo", FACTS, 1, {})
    with pytest.raises(ConfigError, match=words) as caught:
        join_study(storage, "demo", replace(FACTS, **changes), 1, {})  # type: ignore[arg-type]
    assert "'demo'" in caught.value.message
    assert TrialQueue(storage, "demo").state().total == 1


def test_a_study_is_found_by_its_name(storage: SearchStorage) -> None:
    with pytest.raises(ConfigError, match="no study yet"):
        find_study(storage)
    join_study(storage, "demo", FACTS, 1, {})
    assert find_study(storage).study_name == "demo"
    join_study(storage, "other", FACTS, 1, {})
    with pytest.raises(ConfigError, match="several studies: demo, other"):
        find_study(storage)
    with pytest.raises(ConfigError, match="did you mean 'other'"):
        find_study(storage, "otter")


def test_a_study_that_is_not_made_to_its_end_is_named(storage: SearchStorage) -> None:
    optuna.create_study(storage=storage.rdb, study_name="foreign")
    with pytest.raises(ConfigError, match="'foreign' was made by another program"):
        find_study(storage)


def test_the_front_is_what_no_trial_surpasses() -> None:
    study = optuna.create_study(directions=["maximize", "minimize"])
    for values in ((0.8, 50), (0.9, 90), (0.8, 60), (0.7, 10), (0.9, 90)):
        study.add_trial(create_trial(values=values, params={"x": 0.5},
                                     distributions={"x": FloatDistribution(0, 1)}))  # fmt: skip
    study.add_trial(create_trial(state=TrialState.FAIL))
    assert [trial.number for trial in pareto_front(study, study.trials)] == [1, 0, 3]


def test_a_storage_that_is_down_is_an_error_without_its_password(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MEDSEG_SEARCH_PATIENCE", "1")
    url = storage_url("postgresql://ann:geheim@127.0.0.1:1/study", Path())
    with pytest.raises(SearchStorageError) as caught:
        SearchStorage(url)
    assert "geheim" not in str(caught.value)
    assert "127.0.0.1" in caught.value.message
    assert "kept" in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("url", ["search", "nosuch://host/name"])
def test_what_is_no_storage_is_refused(url: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no URL of a database"):
        SearchStorage(storage_url(url, tmp_path))


def test_a_file_that_is_no_database_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "search.db"
    file.write_text("no database " * 100)
    with pytest.raises(SearchStorageError, match="not a database"):
        SearchStorage(storage_url(None, tmp_path))
    assert file.read_text().startswith("no database")


def test_the_database_of_mlflow_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "mlflow.db"
    with closing(sqlite3.connect(file)) as database:
        database.execute("CREATE TABLE alembic_version (version_num TEXT)")
        database.commit()
    before = file.read_bytes()
    with pytest.raises(ConfigError, match="another program") as caught:
        SearchStorage(storage_url(str(file), tmp_path))
    assert "of its own" in str(caught.value.hint)
    assert file.read_bytes() == before


def test_looking_makes_no_tables(tmp_path: Path) -> None:
    file = tmp_path / "empty.db"
    with closing(sqlite3.connect(file)) as database:
        database.execute("CREATE TABLE patients (name TEXT)")
        database.commit()
    before = file.read_bytes()
    with pytest.raises(ConfigError, match="holds no search"):
        SearchStorage(storage_url(str(file), tmp_path), create=False)
    assert file.read_bytes() == before
