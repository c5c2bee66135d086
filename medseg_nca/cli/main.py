"""The command ``medseg-nca``: finds the subcommand, sets up logging, turns errors into exit codes.

Subcommands are imported when they are called, so that ``--help`` is immediate.
"""

from __future__ import annotations

import errno
import importlib
import logging
import os
from typing import Any

import click

from medseg_nca import __version__
from medseg_nca.cli.console import set_up_logging
from medseg_nca.errors import MedsegError
from medseg_nca.registry import Entries
from medseg_nca.suggest import nearest

# For each name "module:attribute" and the text in ``--help``, in the order of the work.
COMMANDS: dict[str, tuple[str, str]] = {
    "demo": ("medseg_nca.cli.demo:demo", "See every stage on a built-in phantom, in minutes."),
    "doctor": ("medseg_nca.cli.doctor:doctor", "Check versions, devices and the tracking store."),
    "new": ("medseg_nca.cli.new:new", "Begin a project of your own that runs at once."),
    "data": ("medseg_nca.cli.data:data", "Check, list, fetch and generate data sets."),
    "dicom": ("medseg_nca.cli.dicom:dicom", "Fetch, scan, import, de-identify and write DICOM."),
    "config": ("medseg_nca.cli.config:config", "List, show and compare settings."),
    "preprocess": ("medseg_nca.cli.preprocess:preprocess", "Prepare a data set for training."),
    "train": ("medseg_nca.cli.train:train", "Train a model."),
    "search": ("medseg_nca.cli.search:search", "Search for the best settings, by short trainings."),
    "evaluate": ("medseg_nca.cli.evaluate:evaluate", "Measure a model on labelled cases."),
    "compare": ("medseg_nca.cli.evaluate:compare", "Compare two evaluated runs, case by case."),
    "dynamics": (
        "medseg_nca.cli.dynamics:dynamics",
        "See what an automaton does over time, under damage and change.",
    ),
    "trust": ("medseg_nca.cli.trust:trust", "Let a model learn how good its own answers are."),
    "predict": ("medseg_nca.cli.predict:predict", "Segment images."),
    "animate": ("medseg_nca.cli.animate:animate", "Film an automaton at work."),
    "play": ("medseg_nca.cli.play:play", "Run an automaton live on a page, and paint damage."),
    "models": ("medseg_nca.cli.models:models", "Describe, register, verify and export models."),
    "serve": ("medseg_nca.cli.serve:serve", "Serve models to 3D Slicer and to programs."),
    "dicom-node": (
        "medseg_nca.cli.dicom_node:dicom_node",
        "Segment the series that a PACS or scanner sends.",
    ),
    "user": ("medseg_nca.cli.user:user", "Add and remove users of a server."),
    "bench": ("medseg_nca.cli.bench:bench", "Measure speed and memory on this machine."),
}
# Commands of other packages: an entry point names a click command.
OTHERS = Entries("medseg_nca.commands", "command")
# Errors of the operating system that mean that a result cannot be written, in words.
NO_ROOM = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the disk is read-only",
    errno.EACCES: "permission denied",
}
INTERRUPTED = 130

log = logging.getLogger(__name__)


class LazyGroup(click.Group):
    """A group whose commands are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands in the order of the work, then those of other packages."""
        return [*COMMANDS, *(name for name in OTHERS.names if name not in COMMANDS)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return one command."""
        if cmd_name in COMMANDS:
            module, attribute = COMMANDS[cmd_name][0].split(":")
            command: click.Command = getattr(importlib.import_module(module), attribute)
            return command
        if cmd_name not in OTHERS.names:
            return None
        entry = OTHERS.find(cmd_name)
        found = entry.load("COMMAND")
        if not isinstance(found, click.Command):
            raise entry.broken(f"a {type(found).__name__} is no click command")
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that was called; an unknown one is an error with the nearest name."""
        known = self.list_commands(ctx) if args and args[0] not in COMMANDS else ()
        if args and args[0] not in (*COMMANDS, *known) and not args[0].startswith("-"):
            guess = nearest(args[0], known)
            question = f" Did you mean {guess!r}?" if guess else ""
            ctx.fail(f"No such command {args[0]!r}.{question}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands and those of other packages into ``--help``, without imports."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])
        for name in COMMANDS:
            OTHERS.warn_if_hidden(name)
        others = [entry for name in self.list_commands(ctx)[len(COMMANDS) :]
                  for entry in OTHERS.claims(name)]  # fmt: skip
        if others:
            with formatter.section("Commands of other packages"):
                formatter.write_dl([(entry.name, entry.package) for entry in others])

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; an error that its user can solve becomes a message and an exit code."""
        try:
            return super().invoke(ctx)
        except MedsegError as error:
            _complain(error.message, error.hint)
            ctx.exit(error.exit_code)
        except KeyboardInterrupt:
            _complain("Interrupted.", None)
            ctx.exit(INTERRUPTED)
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise
            _complain(
                f"{error.filename or 'Output'}: {NO_ROOM[error.errno]}.",
                "Free some space or choose another folder.",
            )
            ctx.exit(MedsegError.exit_code)


def _complain(message: str, hint: str | None) -> None:
    """Print on standard error what is wrong and what to do next."""
    log.debug("Caused by:", exc_info=True)
    click.secho(f"Error: {message}", fg="red", err=True)
    if hint:
        click.secho(f"Next: {hint}", fg="yellow", err=True)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="medseg-nca")
@click.option("-v", "--verbose", is_flag=True, help="Show details, with the cause of an error.")
@click.option("-q", "--quiet", is_flag=True, help="Show only warnings and errors.")
def cli(verbose: bool, quiet: bool) -> None:
    """Segment medical images with neural cellular automata.

    Start with `medseg-nca demo`. Research use only: not a medical device.
    """
    if verbose and quiet:
        raise click.UsageError("--verbose and --quiet exclude each other.")
    set_up_logging(logging.DEBUG if verbose else logging.WARNING if quiet else logging.INFO)


def main() -> None:
    """Entry point of the command line."""
    # Without this, torch's idle threads (libgomp) wait busily for milliseconds on the cores that
    # the threads of the CPU engine need. It must be set before torch is imported.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    cli(prog_name="medseg-nca")
