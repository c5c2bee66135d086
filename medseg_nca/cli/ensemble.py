"""``medseg-nca models ensemble``: join models."""

from __future__ import annotations

from pathlib import Path

import click

from medseg_nca.cli.console import announce
from medseg_nca.cli.next_step import say_next
from medseg_nca.cli.options import json_option, out_option, print_json, tracking_option


@click.command()
@click.argument("members", metavar="RUN RUN ...", nargs=-1, required=True)
@out_option("Folder of the ensemble, which can be used like a run folder.")
@click.option("--name", help="Name of the ensemble; that of its members if not given.")
@click.option("--force", is_flag=True, help="Replace a model that is already there.")
@tracking_option
@json_option
def ensemble(
    members: tuple[str, ...],
    out: Path,
    name: str | None,
    force: bool,
    tracking_uri: str | None,
    as_json: bool,
) -> None:
    """Make one model of several RUNs, such as the folds of a cross-validation.

    The ensemble averages the probabilities of its members, and takes the time of all of them
    together. RUN is a run folder or any other name of a model. The members must have the same
    model, labels and preprocessing. The ensemble is tested on cases that no member has seen.
    """
    announce(f"Joining {len(members)} models in {out}.")
    from medseg_nca.config.training import TrackingSettings
    from medseg_nca.pipelines import ensemble as pipeline

    tracking = TrackingSettings(uri=tracking_uri)
    result = pipeline.run(members, out, name=name, tracking=tracking, force=force)
    if as_json:
        print_json(result.to_dict())
        return
    click.echo(f"{out}: {len(result.members)} members, {result.parameters} parameters.")
    if result.learned is not False and result.data and result.held_out:
        say_next("evaluate", "--model", out, "--data", result.data)
