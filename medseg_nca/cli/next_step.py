"""What a command says comes next: a line that runs as it is printed."""

from __future__ import annotations

import itertools
import re
import shlex
from pathlib import Path

import click

PROGRAM = "medseg-nca"
# What a registered model may not be called by; see ``medseg_nca.tracking.versions``.
NOT_IN_NAMES = re.compile(r"[^\w.\- ]+")


def command(*words: object) -> str:
    """A call of the program with its words quoted as a shell takes them."""
    return shlex.join((PROGRAM, *map(str, words)))


def say_next(*words: object, err: bool = False) -> None:
    """Print the next command; ``err`` where standard output is for programs."""
    click.echo(f"Next: {command(*words)}", err=err)


def settings_words(config: str | None, overrides: tuple[str, ...]) -> list[str]:
    """The options that decide the settings, again."""
    named = [] if config is None else ["--config", config]
    return [*named, *(word for text in overrides for word in ("--set", text))]


def free_folder(parent: str, name: str) -> Path:
    """``parent/name``, or with a number behind it if that is in use."""
    names = itertools.chain([name], (f"{name}_{number}" for number in itertools.count(2)))
    return next(path for name in names if not (path := Path(parent, name)).exists())


def name_of(path: Path) -> str:
    """What a file or folder is called, also if it is given as ``.`` or ``..``."""
    return path.resolve().name.partition(".")[0] or "data"


def model_name(run: Path) -> str:
    """What the model of a run may be registered as."""
    return NOT_IN_NAMES.sub("-", name_of(run)).lstrip(".- ") or "model"
