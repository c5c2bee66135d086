"""``medseg-nca serve``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from medseg_nca.cli.console import announce
from medseg_nca.cli.options import json_option, print_json
from medseg_nca.cli.settings_options import resolve_options, settings_options
from medseg_nca.serving.packages import check_packages
from medseg_nca.serving.settings import ENVIRONMENT, ServeSettings


@click.command()
@settings_options(ServeSettings, ENVIRONMENT)
@click.option(
    "--print-settings", is_flag=True,
    help="Print every setting and where its value comes from, and end; secrets are hidden.",
)  # fmt: skip
@json_option
def serve(settings_file: Path | None, print_settings: bool, as_json: bool, **given: Any) -> None:
    """Serve models over HTTP: to 3D Slicer, other clients of MONAI Label, and programs.

    GET /docs on the server lists all requests. Ctrl-C or SIGTERM stops it: what is computed is
    finished first, and what waits is computed after the next start. `medseg-nca doctor --serve`
    with the same options checks everything without starting.
    """
    if as_json and not print_settings:
        raise click.UsageError("--json is for --print-settings.")
    found = resolve_options(ServeSettings, ENVIRONMENT, settings_file, given)
    if print_settings:
        from medseg_nca.tracking.store import shown

        if as_json:
            print_json({"settings": found.tree(shown), "origins": found.origins})
        else:
            click.echo(found.to_yaml(shown), nl=False)
        return
    settings = found.settings
    settings.check()
    check_packages()
    announce(f"Starting to serve {', '.join(settings.models) or 'the models of the node'}.")
    from medseg_nca.serving.server import serve as run

    run(settings, lambda url: click.echo(f"Listening on {url}"))
