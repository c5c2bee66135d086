"""``medseg-nca demo``: every stage on a phantom."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from medseg_nca.cli.console import announce as say
from medseg_nca.cli.console import print_table
from medseg_nca.cli.options import POSITIVE, json_option, print_json, set_option

if TYPE_CHECKING:
    from medseg_nca.pipelines.demo import DemoResult


# Phases that take seconds; their progress bars are removed at the end.
PASSING = ("generating", "measuring", "preparing", "evaluating", "predicting")


@click.command()
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default="demo",
    show_default=True,
    help="Folder of the demo; files of an earlier demo in it are replaced.",
)
@click.option(
    "--minutes",
    type=POSITIVE,
    default=6.0,
    show_default=True,
    help="Longest time of the training, in minutes; two free cores need less.",
)
@click.option(
    "--cases",
    type=click.IntRange(min=5),
    default=24,
    show_default=True,
    help="Number of phantom cases, including the held-out ones.",
)
@set_option
@json_option
def demo(out: Path, minutes: float, cases: int, overrides: tuple[str, ...], as_json: bool) -> None:
    """See every stage on a built-in phantom.

    The demo makes data, prepares them, trains, evaluates, registers, segments one file and writes a
    report. It needs no data and no network. The exit code is 5 if the trained model is useless.
    """
    say(f"Every stage on {cases} phantom cases, in {out}; training takes {minutes:g} minutes.")
    from medseg_nca.cli.progress import ProgressBars
    from medseg_nca.config.loading import load_settings
    from medseg_nca.pipelines import demo as pipeline

    settings = load_settings("demo", (f"training.max_minutes={minutes}", *overrides))
    with ProgressBars(passing=PASSING) as bars:

        def announce(stage: str, text: str) -> None:
            bars.stop()
            click.echo(f"{stage:<10}  {text}", err=True)

        result = pipeline.run(out, settings, cases=cases, announce=announce, job=bars.job)
    if as_json:
        print_json(result.to_dict())
    else:
        _show(result)
    result.raise_if_useless()


def _show(result: DemoResult) -> None:
    from rich.table import Table

    table = Table(title=f"{result.cases} held-out phantom cases")
    for heading in ("label", "Dice", "HD95 (mm)"):
        table.add_column(heading, justify="left" if heading == "label" else "right")
    for label, values in result.labels.items():
        numbers = ("-" if v is None else f"{v:.3f}" for v in (values["dice"], values["hd95"]))
        table.add_row(label, *numbers)
    print_table(table)
    minutes = sum(result.seconds.values()) / 60
    click.echo(
        f"Mean Dice  {result.mean_dice or 0:.3f}, {result.parameters} parameters, "
        f"{minutes:.1f} minutes (training {result.seconds['train'] / 60:.1f})\n"
        f"Report     {result.report}"
    )
    if result.model:
        click.echo(
            f"Model      {result.model} in {result.tracking_uri}\nPredicted  {result.predicted}"
        )
