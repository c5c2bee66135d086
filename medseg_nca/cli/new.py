"""``medseg-nca new``: a project of one's own."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from medseg_nca.cli.options import json_option, print_json


@click.command()
@click.argument("project", type=click.Path(path_type=Path))
@click.option(
    "--task",
    default="segmentation",
    show_default=True,
    metavar="segmentation|classification|regression|generation|NAME",
    help="What the project's automaton learns; NAME is a task of another package that brings "
    "templates.",
)
@click.option(
    "--dims",
    type=click.Choice(["2", "3"]),
    default="2",
    show_default=True,
    help="Axes of the images.",
)
@json_option
def new(project: Path, task: str, dims: str, as_json: bool) -> None:
    """Begin a project of your own in the new folder PROJECT.

    The folder is a small Python package that adds parts of its own to medseg-nca: how its data are
    read, what its cells perceive, and a preset that uses both. It has made-up data, tests, a
    notebook, a README and a Makefile, and it runs as it is: `make demo` makes the data, trains,
    evaluates and predicts, `make test` tests it. Both take minutes and need no network.

    The package is named after the last part of PROJECT: my-study becomes my_study. A folder that
    exists is left as it is (exit code 2), and so is a name that would hide another package.
    """
    from medseg_nca.scaffold.create import create_project

    made = create_project(Path(project), task, int(dims))
    if as_json:
        names = made.names
        print_json({
            "folder": made.folder, "package": names.package, "task": task, "dims": int(dims),
            "files": made.files,
        })  # fmt: skip
        return
    click.echo(f"{made.folder}: {len(made.files)} files, the package {made.names.package}.")
    click.echo(f"Next:\n  {shlex.join(('cd', str(made.folder)))}\n  make demo\n  make test")
