"""``medseg-nca dicom-node``: run a DICOM node, try its rules, list its work, ask for it again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from medseg_nca.cli.console import announce
from medseg_nca.cli.options import EXISTING, json_option, print_json
from medseg_nca.cli.settings_options import resolve_options, settings_options
from medseg_nca.config.sources import Resolved
from medseg_nca.errors import ConfigError
from medseg_nca.serving.node.settings import ENVIRONMENT, NodeSettings

_SPOOL = click.option(
    "--spool", metavar="PATH", help="Folder that the node was started with.  [default: node]"
)
_SETTINGS = click.option(
    "--settings", "settings_file", metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False), help="Settings file of the node.",
)  # fmt: skip


@click.group(invoke_without_command=True)
@settings_options(NodeSettings, ENVIRONMENT)
@click.option(
    "--explain", metavar="FILE|DIR", type=EXISTING,
    help="Receive nothing: say which rule takes each series there, and why others do not.",
)  # fmt: skip
@click.option(
    "--print-settings", is_flag=True,
    help="Print every setting and where its value comes from, and end; secrets are hidden.",
)  # fmt: skip
@json_option
@click.pass_context
def dicom_node(
    ctx: click.Context, /, settings_file: Path | None, explain: Path | None, print_settings: bool,
    as_json: bool, **given: Any,
) -> None:  # fmt: skip
    """Receive series by C-STORE, segment those that a rule takes, and send the results back.

    Without one of the commands below the node runs. Ctrl-C or SIGTERM stops it: what is received
    and computed is finished first, and everything else is done after the next start.
    """
    if ctx.invoked_subcommand is not None:
        ctx.obj = settings_file, given
        return
    if as_json and not print_settings and explain is None:
        raise click.UsageError("--json is for --explain and --print-settings.")
    found = resolve_options(NodeSettings, ENVIRONMENT, settings_file, given)
    if print_settings:
        _print_settings(found, as_json)
    elif explain is not None:
        _explain(explain, found.settings, as_json)
    else:
        _run(found.settings)


@dicom_node.command("list", short_help="List series, jobs and deliveries, with reasons.")
@_SPOOL
@_SETTINGS
@json_option
@click.pass_context
def list_(
    ctx: click.Context, /, spool: str | None, settings_file: Path | None, as_json: bool
) -> None:
    """List the series, jobs, deliveries and dead letters of a node, which may be at work."""
    from medseg_nca.serving.node.listing import listing

    tree = listing(_spool(ctx, spool, settings_file))
    if as_json:
        print_json(tree)
        return
    from medseg_nca.cli.node_show import show_listing

    show_listing(tree)


# The id of a job may begin with a dash.
@dicom_node.command(
    short_help="Try failed jobs and deliveries again.",
    context_settings={"ignore_unknown_options": True},
)
@click.argument("job", required=False)
@click.option("--all", "everything", is_flag=True, help="All that failed.")
@_SPOOL
@_SETTINGS
@click.pass_context
def retry(
    ctx: click.Context, /, job: str | None, everything: bool, spool: str | None,
    settings_file: Path | None,
) -> None:  # fmt: skip
    """Try JOB again: compute it if it failed, or send its results where they were not taken.

    A result that is held because its estimated quality is rejected is sent if JOB names it.

    The node that is at work does it within a second, or the next one that is started.
    """
    from medseg_nca.serving.node.listing import failed, gone, held, listing
    from medseg_nca.serving.node.requests import ask_again

    if (job is None) != everything:
        raise click.UsageError("Name one JOB, or give --all.")
    folder = _spool(ctx, spool, settings_file)
    listed = listing(folder)
    found, lost = failed(listed), gone(listed)
    if job is not None and job not in (*found, *held(listed)):
        raise ConfigError(
            f"{job}: is no job that failed, nor one with a delivery that was given up or held.",
            hint="`medseg-nca dicom-node list` shows them.",
        )
    ask_again(folder, job)
    count = len(found) if everything else 1
    click.echo(f"{count} to try again: the node is asked.")
    for name in (name for name in lost if everything or name == job):
        click.echo(f"{name}: its series has left the spool; send it again, then it is computed.")


def _spool(ctx: click.Context, spool: str | None, file: Path | None) -> Path:
    before: tuple[Path | None, dict[str, Any]] = ctx.obj or (None, {})
    given = before[1] if spool is None else {**before[1], "spool": spool}
    return resolve_options(NodeSettings, ENVIRONMENT, file or before[0], given).settings.spool


def _print_settings(found: Resolved[NodeSettings], as_json: bool) -> None:
    from medseg_nca.tracking.store import shown

    if as_json:
        print_json({"settings": found.tree(shown), "origins": found.origins})
    else:
        click.echo(found.to_yaml(shown), nl=False)


def _explain(path: Path, settings: NodeSettings, as_json: bool) -> None:
    announce("Asking the rules.")
    from medseg_nca.serving.node.explain import explain

    found = explain(path, settings.routes)
    if as_json:
        print_json({"series": [one.to_tree() for one in found]})
        return
    from medseg_nca.cli.node_show import show_explained

    show_explained([one.to_tree() for one in found])


def _run(settings: NodeSettings) -> None:
    from medseg_nca.serving.packages import check_packages

    settings.check()
    check_packages()
    announce(f"Starting the DICOM node {settings.aet}.")
    from medseg_nca.serving.node.running import run

    run(settings, lambda text: click.echo(text))
