"""``medseg-nca dynamics``: what a trained automaton does over time, under damage and change."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from medseg_nca.cli.console import announce
from medseg_nca.cli.options import (
    SEED,
    data_option,
    device_option,
    engine_option,
    fresh_option,
    json_option,
    keeping_cases,
    model_option,
    out_option,
    print_json,
    set_option,
    split_option,
    tracking_option,
)


class Numbers(click.ParamType):  # type: ignore[type-arg]
    """Numbers above 0, with commas between them."""

    name = "numbers"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, ...]:
        """Return the numbers; fail if one is none or not above 0."""
        if isinstance(value, tuple):
            return value
        try:
            found = tuple(float(part) for part in str(value).split(",") if part.strip())
        except ValueError:
            self.fail(f"{value!r} is no list of numbers such as 0.5,1,2.", param, ctx)
        if not found or min(found) <= 0:
            self.fail(f"{value!r}: numbers above 0 are needed, such as 0.5,1,2.", param, ctx)
        return found


@click.command()
@model_option
@data_option(required=False)
@out_option("Folder for the results; RUN/dynamics if --model is a run.", required=False)
@split_option
@click.option(
    "--cases",
    type=click.IntRange(min=1),
    default=8,
    show_default=True,
    help="Number of cases at most, the first ones; of a classification, of images.",
)
@click.option(
    "--steps",
    type=Numbers(),
    metavar="0.5,1,2",
    help="Times the trained steps at which the score is measured; 0.25 to 8 if not given.",
)
@click.option("--each-level", is_flag=True, help="Also let one level at a time take other steps.")
@click.option(
    "--only",
    metavar="PROBE,...",
    help="Probes: steps, change, settling, damage, rotations, shifts, spacing, seeds; all that "
    "the model can serve if not given.",
)
@click.option("--seed", type=SEED, help="Seed of damage, noise and fire masks that are compared.")
@set_option
@fresh_option
@device_option
@engine_option
@tracking_option
@json_option
def dynamics(
    model: str,
    data: Path | None,
    out: Path | None,
    split: str,
    cases: int,
    steps: tuple[float, ...] | None,
    each_level: bool,
    only: str | None,
    seed: int | None,
    overrides: tuple[str, ...],
    fresh: bool,
    device: str | None,
    engine: str,
    tracking_uri: str | None,
    as_json: bool,
) -> None:
    """Look at what a trained automaton does over time, under damage, and when its image changes.

    The probes are: the score against the number of steps; the size of the change in every step;
    where the state settles (fixed point, cycle, drift, explosion); the answer to damage; to turned,
    shifted and resampled images; and how much the answer depends on the fire seed. Probes that a
    model cannot serve are left out, and the report says why.

    The results are report.html, dynamics.json, a CSV table of each probe, and figures. Finished
    probes are kept: after an interruption the same command goes on.

    --set changes a setting of the probes (such as dynamics.recovery=24 or dynamics.holes=[0.3]), or
    one that `evaluate --set` takes.
    """
    announce(f"Looking at {model}." if data is None else f"Looking at {model} on {data}.")
    from medseg_nca.cli.progress import ProgressBars
    from medseg_nca.config.training import TrackingSettings
    from medseg_nca.dynamics.subject import SubjectRequest
    from medseg_nca.pipelines import dynamics as pipeline
    from medseg_nca.tracking.resolve import load_model

    given = {"factors": steps, "each_level": each_level or None, "seed": seed}
    settings, others = pipeline.probe_settings(
        overrides, {name: value for name, value in given.items() if value is not None}
    )
    names = [name.strip() for name in (only or "").split(",") if name.strip()]
    pipeline.check_probes(names)
    tracking = TrackingSettings(uri=tracking_uri)
    loaded = load_model(model, device=device or "auto", tracking=tracking, engine=engine)
    if out is None:
        run_folder = loaded.folder.parent
        if not (run_folder / "settings.yaml").is_file():
            raise click.UsageError("--out is needed: the model does not lie in a run folder.")
        out = run_folder / "dynamics"
    subject = SubjectRequest(loaded, data, split, cases, others)
    request = pipeline.DynamicsRequest(subject, out, settings, names, fresh)
    with keeping_cases(what="probes"), ProgressBars() as bars:
        tree = pipeline.run(request, bars.job)
    if as_json:
        print_json({"out": str(out), **tree})
    else:
        _show(tree, out)


def _show(tree: dict[str, Any], out: Path) -> None:
    for found in sorted(tree["probes"].values(), key=lambda probe: probe["order"]):
        click.secho(found["title"], bold=True)
        for sentence in found["sentences"]:
            click.echo(f"  {sentence}")
    for name, reason in tree["left_out"].items():
        click.echo(f"Left out: {name}: {reason}")
    click.echo(f"Report: {out / 'report.html'}")
