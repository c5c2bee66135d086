"""The command line finds commands lazily and turns errors into messages and exit codes."""

from __future__ import annotations

import errno
import json
import logging
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from medseg_nca import __version__, errors
from medseg_nca.cli.main import COMMANDS, LazyGroup, cli

HEAVY = ("torch", "monai", "mlflow", "numpy", "matplotlib", "lightning_fabric", "SimpleITK")


def run(*args: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(cli, list(args))
    return result.exit_code, result.stdout, result.stderr


@pytest.mark.parametrize(
    "args", [["--help"], ["--version"], *([name, "--help"] for name in COMMANDS)]
)
def test_help_imports_nothing_heavy(args: list[str]) -> None:
    program = (
        "import json, sys\n"
        "from medseg_nca.cli.main import cli\n"
        f"cli({args!r}, prog_name='medseg-nca', standalone_mode=False)\n"
        f"print(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == []


def test_help_lists_every_command() -> None:
    code, out, _ = run("--help")
    assert code == 0
    assert all(f"  {name} " in out for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_exists_under_its_name(name: str) -> None:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    assert command.name == name
    assert command.get_short_help_str()


def test_version() -> None:
    assert run("--version")[1].strip() == f"medseg-nca, version {__version__}"


def test_an_unknown_command_suggests_the_nearest() -> None:
    code, _, err = run("evalute")
    assert code == 2
    assert "No such command 'evalute'. Did you mean 'evaluate'?" in err


def test_python_m_is_the_same_command(tmp_path: Path, repository: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "medseg_nca", "config", "show", "--set", "trainng.lr=1"],
        capture_output=True,
        text=True,
        cwd=repository,
    )
    assert done.returncode == 2
    assert "did you mean 'training'" in done.stderr
    assert done.stdout == ""


class Failing(LazyGroup):
    """The group of the command line with commands that raise an error."""

    def __init__(self, error: BaseException) -> None:
        super().__init__("medseg-nca", callback=cli.callback, params=cli.params)
        self.error = error

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command:
        return click.Command(cmd_name, callback=self.fail)

    def fail(self) -> None:
        raise self.error


def run_failing(error: BaseException, *options: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(Failing(error), [*options, "doctor"])
    return result.exit_code, result.stdout, result.stderr


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.DataError("x.nii.gz: is truncated.", hint="Copy it again."), 2),
        (errors.PartialFailure("2 of 9 cases failed."), 3),
        (errors.DivergenceError("The loss is not finite."), 4),
        (errors.NothingLearned("The model is useless.", hint="Train longer."), 5),
        (errors.Interrupted("Stopped.", hint="Go on with --resume."), 130),
    ],
)
def test_an_error_becomes_a_message_and_its_exit_code(error: errors.MedsegError, code: int) -> None:
    got, out, err = run_failing(error)
    assert got == code
    assert out == ""
    assert f"Error: {error.message}" in err
    assert "Traceback" not in err
    if error.hint:
        assert f"Next: {error.hint}" in err


def test_ctrl_c_exits_with_130() -> None:
    code, _, err = run_failing(KeyboardInterrupt())
    assert code == 130
    assert "Interrupted" in err


@pytest.mark.parametrize(
    ("number", "complaint"),
    [(errno.ENOSPC, "the disk is full"), (errno.EACCES, "permission denied")],
)
def test_no_room_for_the_result_is_the_callers_to_mend(number: int, complaint: str) -> None:
    code, _, err = run_failing(OSError(number, "no", "/full/x.json"))
    assert code == 2
    assert f"/full/x.json: {complaint}" in err


def test_a_fault_of_ours_is_not_hidden() -> None:
    result = CliRunner().invoke(Failing(ZeroDivisionError("ours")), ["doctor"])
    assert result.exit_code == 1
    assert isinstance(result.exception, ZeroDivisionError)


@pytest.mark.parametrize(
    ("option", "level"),
    [("--verbose", logging.DEBUG), ("--quiet", logging.WARNING), (None, logging.INFO)],
)
def test_the_log_goes_to_standard_error_at_the_chosen_level(option: str | None, level: int) -> None:
    args = [option] if option else []
    code, out, _ = run(*args, "config", "list", "--json")
    assert code == 0
    json.loads(out)
    assert logging.getLogger("medseg_nca").level == level
    assert run(*args, "config", "list")[0] == 0
    package = logging.getLogger("medseg_nca")
    assert [h.get_name() for h in package.handlers].count("medseg_nca.cli") == 1


def test_verbose_and_quiet_exclude_each_other() -> None:
    assert run("--verbose", "--quiet", "config", "list")[0] == 2


def test_verbose_shows_the_cause() -> None:
    assert "Traceback" in run_failing(errors.DataError("x: bad."), "--verbose")[2]
