"""``medseg-nca doctor``: examine the installation."""

from __future__ import annotations

import click

from medseg_nca.cli.console import announce
from medseg_nca.cli.options import json_option, print_json, tracking_option

MARKS = {"ok": "[green]ok[/]", "note": "[yellow]note[/]", "problem": "[red]problem[/]"}
UNHEALTHY = 2


@click.command()
@tracking_option
@json_option
@click.pass_context
def doctor(ctx: click.Context, tracking_uri: str | None, as_json: bool) -> None:
    """Check versions, devices, memory and the tracking store, and list what is missing.

    Each problem comes with advice. The exit code is 0 unless something that is needed is broken.
    """
    announce("Examining this installation.")
    from rich.markup import escape
    from rich.table import Table

    from medseg_nca.cli.console import make_console
    from medseg_nca.doctor import examine

    report = examine(tracking_uri)
    if as_json:
        print_json(report.to_dict())
    else:
        table = Table(box=None, show_header=False, pad_edge=False)
        table.add_column("area", no_wrap=True)
        table.add_column("name", no_wrap=True)
        table.add_column("level", no_wrap=True)
        table.add_column("value", overflow="fold")
        area = ""
        for found in report.findings:
            shown = "" if found.area == area else found.area
            area = found.area
            table.add_row(shown, escape(found.name), MARKS[found.level], escape(found.value))
        console = make_console()
        console.print(table)
        todo = [found for found in report.findings if found.advice]
        if todo:
            console.print("\n[bold]What to do[/]")
        for found in todo:
            console.print(f"- {escape(found.name)}: {escape(found.advice)}", soft_wrap=True)
        if report.healthy:
            console.print("\nReady. Try: medseg-nca demo")
    if not report.healthy:
        ctx.exit(UNHEALTHY)
