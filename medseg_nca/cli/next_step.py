"""The next command that a command suggests: a line that can be run as it is printed."""

from __future__ import annotations

import itertools
import re
import shlex
from pathlib import Path

import click

PROGRAM = "medseg-nca"
# Characters that a registered model's name cannot have (``medseg_nca.tracking.versions``).
NOT_IN_NAMES = re.compile(r"[^\w.\- ]+")


def command(*words: object) -> str:
    """Return a call of the program, with its words quoted for a shell."""
    return shlex.join((PROGRAM, *map(str, words)))


def say_next(*words: object, err: bool = False) -> None:
    """Print the next command; ``err`` prints it on standard error."""
    click.echo(f"Next: {command(*words)}", err=err)


def settings_words(config: str | None, overrides: tuple[str, ...]) -> list[str]:
    """Return the options that give the next command the same settings."""
    named = [] if config is None else ["--config", config]
    return [*named, *(word for text in overrides for word in ("--set", text))]


def free_folder(parent: str, name: str) -> Path:
    """Return ``parent/name``; if it exists, with the first free number added."""
    names = itertools.chain([name], (f"{name}_{number}" for number in itertools.count(2)))
    return next(path for name in names if not (path := Path(parent, name)).exists())


def name_of(path: Path) -> str:
    """Return the name of a file or folder, also if the path is ``.`` or ``..``."""
    return path.resolve().name.partition(".")[0] or "data"


def model_name(run: Path) -> str:
    """Return a name, made from that of the run folder, that a registered model can have."""
    return NOT_IN_NAMES.sub("-", name_of(run)).lstrip(".- ") or "model"
