"""What the command prints: whole lines for files and programs, lines that fit for a terminal."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

from medseg_nca.datasets.adapters.phantom import write_phantom

RECORD = re.compile(r"\d\d:\d\d:\d\d (INFO|WARNING|ERROR) +\S")
CASE = "phantom_00001"


def command(
    repository: Path, *args: object, **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "medseg_nca", *map(str, args)],
        cwd=repository, capture_output=True, text=True,
        env={**os.environ, "COLUMNS": "40", "FORCE_COLOR": "1"},
    )  # fmt: skip


def read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:  # Linux says so when the other end was closed
        return b""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set with one broken image, in a folder whose path is longer than any line."""
    parts = [f"{number}_{'long folder name ' * 5}" for number in range(4)]
    folder = tmp_path_factory.mktemp("console").joinpath(*parts, "data [set]")
    write_phantom(folder, cases=4, seed=1, dims=2, size=(24, 20))
    (folder / "imagesTr" / f"{CASE}.nii.gz").write_bytes(b"no image")
    return folder


def test_a_record_of_the_log_is_one_line_with_whole_paths(
    data: Path, repository: Path, tmp_path: Path
) -> None:
    result = command(
        repository, "preprocess", "--data", data, "--out", tmp_path / "out", "--workers", 0
    )
    assert result.returncode == 3, result.stderr
    broken = str(data / "imagesTr" / f"{CASE}.nii.gz")
    records = [line for line in result.stderr.splitlines() if RECORD.match(line)]
    assert [line for line in records if "ERROR" in line and broken in line]
    assert len(broken) > 300
    named = [line for line in result.stderr.splitlines() if broken in line]
    assert len(named) == 1, "it is named as it fails, and not again at the end"
    assert "Error: 1 of 4 cases failed; " in result.stderr


def test_a_table_in_a_file_keeps_whole_paths(data: Path, repository: Path) -> None:
    result = command(repository, "data", "check", data)
    assert result.returncode == 2, result.stderr
    assert str(data / "imagesTr" / f"{CASE}.nii.gz") in result.stdout


def test_the_title_of_a_table_is_not_wrapped_to_its_width(repository: Path) -> None:
    run = repository / "medseg_nca" / "zoo" / "hippocampus"
    result = command(repository, "models", "describe", run)
    assert result.returncode == 0, result.stderr
    assert str(run) in result.stdout.splitlines()


def test_a_file_name_with_a_line_break_makes_no_line_of_the_log(
    repository: Path, tmp_path: Path
) -> None:
    image = tmp_path / "two\nlines.nii.gz"
    image.write_bytes(b"no image")
    out = tmp_path / "out"
    result = command(repository, "predict", "--model", "zoo:hippocampus", "--out", out, image)
    assert result.returncode == 3
    assert any("two\\nlines.nii.gz" in line for line in result.stderr.splitlines())


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="there are no pseudo-terminals here")
def test_a_terminal_gets_lines_that_fit(repository: Path) -> None:
    terminal, end = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "medseg_nca", "data", "list"],
        cwd=repository, stdout=end, stdin=end, stderr=end,
        env={**os.environ, "COLUMNS": "60", "TERM": "xterm"},
    )  # fmt: skip
    os.close(end)
    shown = click.unstyle(b"".join(iter(lambda: read(terminal), b"")).decode())
    os.close(terminal)
    assert process.wait() == 0
    assert "Decathlon" in shown
    assert max(map(len, shown.splitlines())) <= 60
