"""``medseg-nca user``: who may log in to a server."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from medseg_nca.serving.security.users import UserFile

_FILE = click.option(
    "--users", "file", type=click.Path(path_type=Path, dir_okay=False), required=True,
    help="File of users.",
)  # fmt: skip
_STDIN = click.option(
    "--password-stdin", is_flag=True, help="Read the password from standard input."
)


@click.group()
def user() -> None:
    """Add and remove users of `medseg-nca serve`, and change their passwords.

    A running server sees changes at once.
    """


@user.command()
@click.argument("name")
@_FILE
@click.option(
    "--role", type=click.Choice(["reader", "user", "admin"]), default="user", show_default=True,
    help="reader: looks; user: also sends images and labels; admin: also sees the jobs of all and "
    "the audit log.",
)  # fmt: skip
@_STDIN
def add(name: str, file: Path, role: str, password_stdin: bool) -> None:
    """Add the user NAME; the file is made if it is missing."""
    users = _open(file)
    users.add(name, _password(password_stdin), role)  # type: ignore[arg-type]
    click.echo(f"{name} may log in as {role}.")


@user.command()
@click.argument("name")
@_FILE
@_STDIN
def passwd(name: str, file: Path, password_stdin: bool) -> None:
    """Give the user NAME another password; who is logged in with the old one is logged out."""
    _open(file).change(name, _password(password_stdin))
    click.echo(f"{name} has another password.")


@user.command()
@click.argument("name")
@_FILE
def remove(name: str, file: Path) -> None:
    """Remove the user NAME, who is logged out by it."""
    _open(file).remove(name)
    click.echo(f"{name} may not log in any more.")


def _open(file: Path) -> UserFile:
    from medseg_nca.serving.security.users import UserFile

    return UserFile(file)


def _password(stdin: bool) -> str:
    if stdin:
        return sys.stdin.readline().rstrip("\r\n")
    return str(click.prompt("Password", hide_input=True, confirmation_prompt=True))
