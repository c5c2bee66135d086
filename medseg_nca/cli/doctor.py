"""``medseg-nca doctor``: examine the installation, or the set-up of a server or a DICOM node."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from medseg_nca.cli.console import announce
from medseg_nca.cli.options import POSITIVE, json_option, print_json
from medseg_nca.cli.settings_options import resolve_options, settings_options
from medseg_nca.serving.node.settings import ENVIRONMENT as NODE_ENVIRONMENT
from medseg_nca.serving.node.settings import NodeSettings
from medseg_nca.serving.settings import ENVIRONMENT, ServeSettings

if TYPE_CHECKING:
    from medseg_nca.config.base import Settings
    from medseg_nca.findings import DoctorFinding, Report
    from medseg_nca.serving.catalogue import ServedEntry

MARKS = {"ok": "[green]ok[/]", "note": "[yellow]note[/]", "problem": "[red]problem[/]"}
UNHEALTHY = 2
# Of the options of a server the only one that an installation has too.
_TRACKING = "tracking_uri"
# What --node is without a file behind it; no file can be called so.
_NO_FILE = "\n"


@click.command()
@click.option(
    "--serve", "server", is_flag=True,
    help="Check the set-up of a server instead, without starting it. Takes all options of "
    "`medseg-nca serve`, besides those below.",
)  # fmt: skip
@click.option(
    "--node", is_flag=False, flag_value=_NO_FILE, metavar="[FILE]",
    help="Check the set-up of a DICOM node instead, without starting it. Takes all options of "
    "`medseg-nca dicom-node`, besides those below; FILE is that of --settings. With --serve: the "
    "settings file of the node that runs within the server.",
)  # fmt: skip
@settings_options(
    ServeSettings, ENVIRONMENT, shown=(_TRACKING,), also=NodeSettings, without=("node",)
)
@click.option(
    "--within", type=POSITIVE, default=120.0, show_default=True,
    help="With --serve and --node: seconds in which a model has to load and to compute a small "
    "image.",
)  # fmt: skip
@json_option
@click.pass_context
def doctor(
    ctx: click.Context, /, server: bool, node: str | None, settings_file: Path | None,
    within: float, as_json: bool, **given: Any,
) -> None:  # fmt: skip
    """Check versions, devices, memory and the tracking store, and list what is missing.

    With --serve: users, permissions, TLS, port, models, folder, disk, registry, images and clock of
    a server. With --node: who may send, port, TLS, rules, models, spool, disk and destinations of a
    DICOM node. Each problem comes with advice. The exit code is 0 unless something that is needed
    is broken.
    """
    file = None if node in (None, _NO_FILE) else Path(str(node))
    if server:
        if node == _NO_FILE:
            raise click.UsageError("--node needs the FILE of the node with --serve.")
        announce("Examining the set-up of the server.")
        report = _examine_server(settings_file, within, {**_of(ServeSettings, given), "node": file})
    elif node is not None:
        if file is not None and settings_file is not None:
            raise click.UsageError("--node FILE and --settings FILE name the same: give one.")
        announce("Examining the set-up of the DICOM node.")
        report = _examine_node(file or settings_file, within, _of(NodeSettings, given))
    else:
        _no_server(settings_file, given)
        announce("Examining this installation.")
        from medseg_nca.doctor import examine

        report = examine(given[_TRACKING])
    if as_json:
        print_json(report.to_dict())
    else:
        command = "serve" if server else "demo" if node is None else "dicom-node"
        _print(report, f"medseg-nca {command}")
    if not report.healthy:
        ctx.exit(UNHEALTHY)


def _given(values: Mapping[str, Any]) -> list[str]:
    return [key for key, value in values.items() if value not in (None, ())]


def _flag(key: str) -> str:
    return f"--{key.replace('_', '-')}"


def _of(model: type[Settings], given: Mapping[str, Any]) -> dict[str, Any]:
    """The options of one kind of settings; those of the other are refused."""
    others = [key for key in _given(given) if key not in model.model_fields]
    if others:
        other = "--serve" if model is NodeSettings else "--node"
        raise click.UsageError(f"{_flag(others[0])} is for {other}.")
    return {key: value for key, value in given.items() if key in model.model_fields}


def _no_server(settings_file: Path | None, given: Mapping[str, Any]) -> None:
    named = [key for key in _given(given) if key != _TRACKING]
    if named or settings_file is not None:
        key = named[0] if named else "settings"
        kinds: dict[str, type[Settings]] = {"--serve": ServeSettings, "--node": NodeSettings}
        flags = [flag for flag, model in kinds.items() if key in model.model_fields] or [*kinds]
        raise click.UsageError(f"{_flag(key)} is for {' and '.join(flags)}.")


def _examine_server(file: Path | None, within: float, given: dict[str, Any]) -> Report:
    from medseg_nca.errors import MedsegError
    from medseg_nca.serving.checkup.examine import examine_server, models_of

    resolved = resolve_options(ServeSettings, ENVIRONMENT, file, given)
    settings = resolved.settings
    node = None
    if settings.node is not None:
        node = resolve_options(NodeSettings, NODE_ENVIRONMENT, settings.node, {})
    found = list(examine_server(resolved, within, node))
    try:
        entries = models_of(settings, None if node is None else node.settings)
    except MedsegError:  # the models say so
        entries = ()
    return _report(found, entries, settings.tracking_uri)


def _examine_node(file: Path | None, within: float, given: dict[str, Any]) -> Report:
    from medseg_nca.errors import MedsegError
    from medseg_nca.serving.checkup.node import examine_node
    from medseg_nca.serving.node.routes import entries_of

    resolved = resolve_options(NodeSettings, NODE_ENVIRONMENT, file, given)
    found = list(examine_node(resolved, within))
    try:
        entries, _ = entries_of(resolved.settings.routes)
    except MedsegError:  # the rules say so
        entries = ()
    return _report(found, entries, resolved.settings.tracking_uri)


def _report(
    found: Sequence[DoctorFinding], entries: Sequence[ServedEntry], uri: str | None
) -> Report:
    """With the registry, if a model comes from there."""
    from medseg_nca.doctor import examine_store
    from medseg_nca.findings import Report
    from medseg_nca.serving.checkup.models import needs_registry

    return Report((*found, *(examine_store(uri) if needs_registry(entries) else ())))


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
