"""A full disk, a folder that cannot be written, and Ctrl-C leave nothing half-written."""

from __future__ import annotations

import json
import resource
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from medseg_nca.cases.prepare_case import prepare_case
from medseg_nca.training.loop import Trainer
from tests.cli.bad_input.stages import TRAINED, image_of, preprocess, train
from tests.cli.runner import complains, half_written, run


@contextmanager
def full_disk(limit: int) -> Iterator[None]:
    """No file may grow beyond ``limit`` bytes: the nearest to a full disk without a disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


COMMANDS = ["preprocess", "train", "predict", "evaluate", "export", "report"]


def writing(command: str, out: Path, data: Path, prepared: Path, trained: Path) -> Result:
    match command:
        case "preprocess":
            return preprocess(data, out)
        case "train":
            return train(prepared, out)
        case "predict":
            return run("predict", "--model", trained, "--out", out, image_of(data))
        case "evaluate":
            return run("evaluate", "--model", trained, "--data", data, "--out", out)
        case "export":
            return run("models", "export", trained, "--to", out)
        case _:
            return run("data", "check", data, "--json", out / "report.json")


@pytest.mark.parametrize("command", COMMANDS)
def test_a_full_disk(
    data: Path, prepared: Path, trained: Path, tmp_path: Path, command: str
) -> None:
    out = tmp_path / "out"
    with full_disk(100):
        result = writing(command, out, data, prepared, trained)
    complains(result, out)
    assert not half_written(tmp_path)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_folder_that_cannot_be_written(
    data: Path, prepared: Path, trained: Path, tmp_path: Path, command: str
) -> None:
    (tmp_path / "file").write_text("in the way")
    out = tmp_path / "file" / "out"
    complains(writing(command, out, data, prepared, trained), out)
    assert (tmp_path / "file").read_text() == "in the way"


def test_ctrl_c_in_training_can_be_resumed(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if threading.current_thread() is not threading.main_thread():
        pytest.skip("signals reach the main thread alone")
    step = Trainer._step

    def interrupted(self: Trainer, batch: dict[str, Any]) -> dict[str, Any]:
        values = step(self, batch)
        if self.counters.iteration == 1:
            signal.raise_signal(signal.SIGINT)
        return values

    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_step", interrupted)
        complains(train(prepared, out, iterations=4), "iteration 2", "--resume", code=130)
    assert not half_written(out)
    assert train(prepared, out, "--resume", iterations=4).exit_code == TRAINED
    assert json.loads((out / "training.json").read_text())["iterations"] == 4


def test_ctrl_c_in_preprocessing_keeps_what_is_done(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if threading.current_thread() is not threading.main_thread():
        pytest.skip("signals reach the main thread alone")
    calls = []

    def interrupted(item: Any, job: Any) -> Any:
        calls.append(item)
        if len(calls) == 3:
            signal.raise_signal(signal.SIGINT)
        return prepare_case(item, job)

    out = tmp_path / "out"
    # A process that a shell started in the background ignores Ctrl-C unless told otherwise.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with monkeypatch.context() as patch:
            patch.setattr("medseg_nca.pipelines.preprocess.prepare_case", interrupted)
            complains(preprocess(data, out), "finished cases are kept", "same command", code=130)
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(list((out / "cases").iterdir())) == 2
    assert not half_written(out)
    again = preprocess(data, out)
    assert again.exit_code == 0
    assert "2 were up to date" in " ".join(again.stderr.split())
