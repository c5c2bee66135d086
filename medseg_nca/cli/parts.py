"""``medseg-nca models parts``: what a cell can be built of."""

from __future__ import annotations

import click

from medseg_nca.cli.console import announce
from medseg_nca.cli.options import json_option, print_json


@click.command()
@json_option
def parts(as_json: bool) -> None:
    """List perceptions, update rules and options of a cell.

    Those of installed packages are among them. docs/models.md explains each; docs/extending.md
    says how to add one.
    """
    announce("Reading the parts of cells.")
    from medseg_nca.models.cell_parts import list_parts

    found = list_parts()
    if as_json:
        print_json([part._asdict() for part in found])
        return
    from rich.markup import escape
    from rich.table import Table

    from medseg_nca.cli.console import print_table

    table = Table(title="parts of a cell", title_justify="left")
    for column in ("setting", "name", "reads", "what it is"):
        table.add_column(column, overflow="fold")
    for part in found:
        table.add_row(*map(escape, part))
    print_table(table)
