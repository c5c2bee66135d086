"""``medseg-nca doctor``: examine the installation, or the set-up of a server."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from medseg_nca.cli.console import announce
from medseg_nca.cli.options import POSITIVE, json_option, print_json
from medseg_nca.cli.settings_options import resolve_options, settings_options
from medseg_nca.serving.settings import ENVIRONMENT, ServeSettings

if TYPE_CHECKING:
    from medseg_nca.findings import Report

MARKS = {"ok": "[green]ok[/]", "note": "[yellow]note[/]", "problem": "[red]problem[/]"}
UNHEALTHY = 2
# Of the options of a server the only one that an installation has too.
_TRACKING = "tracking_uri"


@click.command()
@click.option(
    "--serve", "server", is_flag=True,
    help="Check the set-up of a server instead, without starting it. Takes all options of "
    "`medseg-nca serve`, besides the two below.",
)  # fmt: skip
@settings_options(ServeSettings, ENVIRONMENT, shown=(_TRACKING,))
@click.option(
    "--within", type=POSITIVE, default=120.0, show_default=True,
    help="With --serve: seconds in which a model has to load and to compute a small image.",
)  # fmt: skip
@json_option
@click.pass_context
def doctor(
    ctx: click.Context, /, server: bool, settings_file: Path | None, within: float, as_json: bool,
    **given: Any,
) -> None:  # fmt: skip
    """Check versions, devices, memory and the tracking store, and list what is missing.

    With --serve: users, permissions, TLS, port, models, folder, disk, registry, images and clock of
    a server. Each problem comes with advice. The exit code is 0 unless something that is needed is
    broken.
    """
    if server:
        announce("Examining the set-up of the server.")
        report = _examine_server(settings_file, within, given)
    else:
        _no_server(settings_file, given)
        announce("Examining this installation.")
        from medseg_nca.doctor import examine

        report = examine(given[_TRACKING])
    if as_json:
        print_json(report.to_dict())
    else:
        _print(report, "medseg-nca serve" if server else "medseg-nca demo")
    if not report.healthy:
        ctx.exit(UNHEALTHY)


def _no_server(settings_file: Path | None, given: dict[str, Any]) -> None:
    named = [key for key, value in given.items() if value not in (None, ()) and key != _TRACKING]
    if named or settings_file is not None:
        flag = named[0].replace("_", "-") if named else "settings"
        raise click.UsageError(f"--{flag} is for --serve.")


def _examine_server(file: Path | None, within: float, given: dict[str, Any]) -> Report:
    from medseg_nca.doctor import examine_store
    from medseg_nca.findings import Report
    from medseg_nca.serving.checkup.examine import examine_server
    from medseg_nca.serving.checkup.models import needs_registry

    resolved = resolve_options(ServeSettings, ENVIRONMENT, file, given)
    found = list(examine_server(resolved, within))
    if needs_registry(resolved.settings):
        found += examine_store(resolved.settings.tracking_uri)
    return Report(tuple(found))


def _print(report: Report, try_this: str) -> None:
    from rich.markup import escape
    from rich.table import Table

    from medseg_nca.cli.console import make_console

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
        console.print(f"\nReady. Try: {try_this}")
