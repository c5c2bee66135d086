"""A full disk, a folder that cannot be written, and Ctrl-C leave nothing half-written."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import Result

from medseg_nca.datasets.adapters.phantom import write_phantom
from tests.cli.bad_input.stages import TRAINED, image_of, preprocess, train
from tests.cli.runner import complains, full_disk, half_written, run

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


@contextmanager
def ctrl_c_when(folder: Path, pattern: str) -> Iterator[None]:
    """Send Ctrl-C to this process as soon as a folder has a file of that name."""
    if threading.current_thread() is not threading.main_thread():
        pytest.skip("signals reach the main thread alone")
    # A process that a shell started in the background ignores Ctrl-C unless told otherwise.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.002):
            if list(folder.glob(pattern)):
                os.kill(os.getpid(), signal.SIGINT)
                return

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield
    finally:
        over.set()
        watching.join()
        signal.signal(signal.SIGINT, before)


def test_ctrl_c_in_training_can_be_resumed(prepared: Path, tmp_path: Path) -> None:
    out, count = tmp_path / "run", 300
    with ctrl_c_when(out, "history.csv"):
        stopped = train(prepared, out, "--set", "training.log_every=1", iterations=count)
    complains(stopped, "Stopped at iteration", "--resume", code=130)
    assert not half_written(out)
    again = train(prepared, out, "--resume", "--set", "training.log_every=1", iterations=count)
    assert again.exit_code in (0, TRAINED)
    assert json.loads((out / "training.json").read_text())["iterations"] == count
    rows = (out / "history.csv").read_text().splitlines()[1:]
    numbers = [int(row.split(",")[0]) for row in rows]
    assert sorted(set(numbers)) == list(range(1, count + 1)), "no iteration is left out"


# Ctrl-C may come between opening a file and the block that closes it.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_ctrl_c_in_preprocessing_keeps_what_is_done(tmp_path: Path) -> None:
    data, out, count = tmp_path / "data", tmp_path / "out", 30
    write_phantom(data, count, dims=2, size=(24, 20))
    # A file that is still being written has a hidden name.
    with ctrl_c_when(out / "cases", "[!.]*.npz"):
        stopped = preprocess(data, out)
    complains(stopped, "finished cases are kept", "same command", code=130)
    finished = len(list((out / "cases").iterdir()))
    assert 1 <= finished < count
    assert not half_written(out)
    again = preprocess(data, out)
    assert again.exit_code == 0
    assert f"{finished} were up to date" in " ".join(again.stderr.split())
