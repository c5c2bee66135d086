"""``medseg-nca trust``: let a model learn to estimate its own answers."""

from __future__ import annotations

from pathlib import Path

import click

from medseg_nca.cli.console import announce
from medseg_nca.cli.next_step import say_next
from medseg_nca.cli.options import (
    POSITIVE,
    data_option,
    device_option,
    engine_option,
    json_option,
    model_option,
    out_option,
    print_json,
    set_option,
    tracking_option,
)


@click.command()
@model_option
@data_option()
@out_option(
    "Folder for a copy of the model; the run itself is changed if not given.", required=False
)
@click.option(
    "--split", type=click.Choice(["val", "test", "train", "all"]), default="val",
    show_default=True, help="Part of the data set, as the run that trained the model split it.",
)  # fmt: skip
@click.option(
    "--cases", type=click.IntRange(min=2), default=40, show_default=True,
    help="Number of cases at most, the first ones.",
)  # fmt: skip
@click.option(
    "--corruption", "corruptions", multiple=True, metavar="NAME",
    help="A kind of artificial fault; may be repeated.  [default: all]",
)  # fmt: skip
@click.option(
    "--confidence", type=click.FloatRange(0.5, 1, min_open=True, max_open=True), default=0.9,
    show_default=True, help="Of the interval of the predicted Dice.",
)  # fmt: skip
@click.option("--max-minutes", type=POSITIVE, help="Leave out images with faults after this time.")
@set_option
@device_option
@engine_option
@tracking_option
@json_option
def trust(
    model: str,
    data: Path,
    out: Path | None,
    split: str,
    cases: int,
    corruptions: tuple[str, ...],
    confidence: float,
    max_minutes: float | None,
    overrides: tuple[str, ...],
    device: str | None,
    engine: str,
    tracking_uri: str | None,
    as_json: bool,
) -> None:
    """Let a model learn from labelled cases how good its answers are.

    A training does this by itself at its end; this command adds it to older models, or fits it
    again on other cases. They must be cases that the model was not trained on. Each is predicted
    as it is and with artificial faults; what the answers look like is then related to their true
    Dice. The result is part of model.json; the weights do not change.
    """
    announce(f"Fitting the estimate of {model} on {data}.")
    from medseg_nca.cli.progress import ProgressBars
    from medseg_nca.config.training import TrackingSettings
    from medseg_nca.config.trust import TrustSettings
    from medseg_nca.pipelines import trust as pipeline
    from medseg_nca.tasks.base import TrustRequest
    from medseg_nca.tracking.resolve import load_model

    tracking = TrackingSettings(uri=tracking_uri)
    loaded = load_model(model, device=device or "auto", tracking=tracking, engine=engine)
    settings = TrustSettings(cases=cases, corruptions=corruptions or None, confidence=confidence)
    request = TrustRequest(loaded, data, split, settings, overrides, max_minutes)
    with ProgressBars() as bars:
        result = pipeline.run(request, out, bars.job)
    if as_json:
        print_json(result.to_dict())
        return
    click.echo(
        f"{result.folder}: estimates its answers, fitted on {result.to_dict()['cases']} cases."
    )
    say_next("evaluate", "--model", result.folder.parent, "--data", data, "--trust")
