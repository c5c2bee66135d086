"""The search as a program of its own, which can be killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import optuna
import psutil
from optuna.trial import FrozenTrial, TrialState

from medseg_nca.search.owner import Owner
from medseg_nca.search.queue import OWNER, TrialQueue
from medseg_nca.search.storage import SearchStorage

ROOT = Path(__file__).resolve().parents[2]
SMALL = (
    "model.levels=[{scale: 2, steps: 2}]", "preprocess.crop_size=[16, 16]",
    "training.batch_size=1", "training.optimiser=adamw", "training.workers=0",
    "augment.enabled=false",
)  # fmt: skip
SEARCH = (
    "--no-tracking", *(word for text in SMALL for word in ("--set", text)),
    "--tune", "training.lr=log:1e-3..1e-2",
)  # fmt: skip


def start(
    data: Path, out: Path, *more: object, environment: Mapping[str, str] | None = None
) -> subprocess.Popen[str]:
    """Start the command; what it says is in its standard error."""
    words = ["search", "--data", data, "--out", out, *SEARCH, *more]
    return subprocess.Popen(
        [sys.executable, "-m", "medseg_nca", *map(str, words)], cwd=out.parent, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT), **(environment or {})},
    )  # fmt: skip


def wait_for(command: subprocess.Popen[str], url: str, state: TrialState) -> FrozenTrial:
    """Wait until a trial is in a state; the command must not end before."""
    while command.poll() is None:
        for trial in trials(url):
            if trial.state == state and (state.is_finished() or trial.user_attrs.get(OWNER)):
                return trial
        time.sleep(0.3)
    raise AssertionError(command.communicate()[1])


def trials(url: str) -> list[FrozenTrial]:
    """The trials of the only study of a storage; none while there is no study."""
    try:
        storage = SearchStorage(url, create=False)
    except Exception:
        return []
    try:
        (name,) = optuna.get_all_study_names(storage.rdb)
        return TrialQueue(storage, name).trials()
    except Exception:
        return []
    finally:
        storage.rdb.engine.dispose()


def kill_a_worker(command: subprocess.Popen[str], url: str) -> int:
    """Kill the process that works on a trial, and return the trial's number."""
    while True:
        trial = wait_for(command, url, TrialState.RUNNING)
        owner = Owner.parsed(trial.user_attrs[OWNER])
        assert owner is not None
        assert owner.process != command.pid
        if not psutil.pid_exists(owner.process):
            continue
        os.kill(owner.process, signal.SIGSTOP)  # so that the trial cannot end meanwhile
        now = trials(url)[trial.number]
        same = now.state == TrialState.RUNNING and now.user_attrs[OWNER] == trial.user_attrs[OWNER]
        os.kill(owner.process, signal.SIGKILL if same else signal.SIGCONT)
        if same:
            return trial.number
