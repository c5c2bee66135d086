"""The command line as a test calls it, and what a refusal looks like."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from click.testing import CliRunner, Result

from medseg_nca.cli.main import cli


def run(*args: object) -> Result:
    """Run the command; a traceback of ours fails the test that met it."""
    result = CliRunner().invoke(cli, [str(arg) for arg in args])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def files_below(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def half_written(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if ".part." in path.name]


def complains(result: Result, *words: object, code: int = 2) -> None:
    assert result.exit_code == code, result.output
    assert "Error: " in result.stderr
    for word in words:
        assert str(word) in result.stderr


@contextmanager
def full_disk(limit: int) -> Iterator[None]:
    """No file may grow beyond ``limit`` bytes: the nearest to a full disk without a disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
