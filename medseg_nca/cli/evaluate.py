"""``medseg-nca evaluate`` and ``medseg-nca compare``: measure models, and compare two."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from medseg_nca.cli.console import announce
from medseg_nca.cli.next_step import model_name, say_next
from medseg_nca.cli.options import (
    check_workers,
    data_option,
    device_option,
    engine_option,
    fresh_option,
    json_option,
    keeping_cases,
    model_option,
    one_worker_option,
    out_option,
    print_json,
    scheduler_option,
    set_option,
    split_option,
    tracking_option,
)

if TYPE_CHECKING:
    from medseg_nca.tasks.base import Evaluation, ResultTable


@click.command()
@model_option
@data_option(required=False)
@out_option("Folder for the results; RUN/evaluation if --model is a run.", required=False)
@split_option
@click.option("--save-predictions", is_flag=True, help="Also write the predicted label maps.")
@click.option(
    "--trust",
    is_flag=True,
    help="Also measure how good the model's own estimates are, on each case clean and with "
    "artificial faults: trust.json, trust.csv, trust.html (segmentation).",
)
@click.option(
    "--trust-cases", type=click.IntRange(min=1), help="Only so many cases for --trust; else all."
)
@set_option
@one_worker_option
@scheduler_option
@fresh_option
@device_option
@engine_option
@tracking_option
@json_option
def evaluate(
    model: str,
    data: Path | None,
    out: Path | None,
    split: str,
    overrides: tuple[str, ...],
    workers: int | None,
    scheduler: str | None,
    fresh: bool,
    device: str | None,
    engine: str,
    tracking_uri: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Measure a model; a model of a segmentation is measured on labelled cases.

    A segmentation is measured by Dice, HD95, HD, ASSD, NSD, volume difference, sensitivity and
    precision of every case and label, in millimetres on the grid of the label map; of other tasks
    the documentation says it. Results are metrics.json, metrics.csv, report.html and figures.

    A segmentation or a regression keeps finished cases: after an interruption the same command
    goes on, and evaluates only cases that are missing or have changed.
    """
    check_workers(workers, scheduler)
    if options["trust_cases"] is not None and not options["trust"]:
        raise click.UsageError("--trust-cases needs --trust.")
    announce(f"Evaluating {model}." if data is None else f"Evaluating {model} on {data}.")
    from medseg_nca.cli.progress import ProgressBars
    from medseg_nca.config.training import TrackingSettings
    from medseg_nca.pipelines import evaluate as pipeline
    from medseg_nca.pipelines.run_folder import training_of
    from medseg_nca.tasks import TASKS, Task
    from medseg_nca.tasks.base import EvaluateRequest
    from medseg_nca.tracking.resolve import load_model

    tracking = TrackingSettings(uri=tracking_uri)
    loaded = load_model(model, device=device or "auto", tracking=tracking, engine=engine)
    run_folder = loaded.folder.parent
    is_run = (run_folder / "settings.yaml").is_file()
    if out is None:
        if not is_run:
            raise click.UsageError("--out is needed: the model does not lie in a run folder.")
        out = run_folder / "evaluation"
    given = {name: value for name, value in options.items() if value}
    request = EvaluateRequest(
        loaded, data, out, split, overrides, given, workers or 1, scheduler, fresh
    )
    task: Task = TASKS.get(loaded.spec.task)
    with keeping_cases(task.keeps_cases), ProgressBars() as bars:
        evaluation = pipeline.run(request, bars.job)
    if is_run:
        pipeline.publish(evaluation, run_folder, tracking_uri)
    if as_json:
        print_json({"out": str(out), **evaluation.tree})
    else:
        _show_evaluation(evaluation, task.table(evaluation.tree))
    evaluation.raise_for_failures()
    if is_run and not as_json and training_of(run_folder).get("learned") is not False:
        say_next("models", "register", run_folder, "--name", model_name(run_folder))


def _show_evaluation(evaluation: Evaluation, first: ResultTable) -> None:
    for results in (first, *evaluation.tables):
        _show_table(results)
    for name in evaluation.reports:
        click.echo(f"Report: {evaluation.out / name}")


def _show_table(results: ResultTable) -> None:
    from rich.markup import escape
    from rich.table import Table

    from medseg_nca.cli.console import print_table

    table = Table(title=escape(results.title))
    for number, column in enumerate(results.columns):
        table.add_column(column, justify="right" if number else "left")
    for row in results.rows:
        table.add_row(*map(escape, row))
    print_table(table)
    if results.summary:
        click.echo(results.summary)


@click.command()
@click.argument("run_a", type=click.Path(path_type=Path, exists=True))
@click.argument("run_b", type=click.Path(path_type=Path, exists=True))
@click.option(
    "--metric", help="A metric of metrics.json; the task's first if not given, such as dice."
)
@out_option("Folder for comparison.json and differences.png.", required=False)
@click.option(
    "--bootstrap",
    type=click.IntRange(min=0),
    default=2000,
    show_default=True,
    help="Number of resamples for the interval.",
)
@json_option
def compare(
    run_a: Path, run_b: Path, metric: str | None, out: Path | None, bootstrap: int, as_json: bool
) -> None:
    """Compare two evaluated runs, case by case.

    RUN_A and RUN_B are run folders, folders of an evaluation, or metrics.json files. The results
    are the paired differences B - A with a bootstrap interval and the p-value of Wilcoxon's test.
    """
    announce(f"Comparing {run_b} with {run_a}.")
    from medseg_nca.config.training import EvaluationSettings
    from medseg_nca.pipelines import compare as pipeline

    settings = EvaluationSettings(bootstrap=bootstrap)
    tree = pipeline.run(run_a, run_b, metric=metric, out=out, settings=settings)
    if as_json:
        print_json(tree)
    else:
        _show_comparison(tree, out)


def _show_comparison(tree: dict[str, Any], out: Path | None) -> None:
    from rich.markup import escape
    from rich.table import Table

    from medseg_nca.cli.console import make_console, print_table
    from medseg_nca.metrics.summary import interval_key

    console = make_console()
    for side in ("a", "b"):
        console.print(
            f"{side.upper()}: {escape(tree[side]['model'])} ({escape(tree[side]['path'])})"
        )
    for note in tree["notes"]:
        console.print(f"Note: {escape(note)}")
    heading = f"{tree['heading']}, {tree['better']} is better"
    table = Table(title=f"{heading}; {tree['cases']} cases")
    percent = f"{100 * tree['confidence']:g} % interval"
    for column in ("label", "A", "B", "B - A", percent, "p", "better", "n"):
        justify: Any = "left" if column == "label" else "right"
        table.add_column(column, justify=justify, no_wrap=column != "label")
    for name, row in tree["labels"].items():
        limits = row[interval_key(tree["confidence"])]
        interval = "–" if limits is None else f"{limits[0]:+.3f}, {limits[1]:+.3f}"
        p = "–" if row["p"] is None else f"{row['p']:.2g}"
        table.add_row(
            escape(name), _number(row["mean_a"]), _number(row["mean_b"]),
            _number(row["difference"], "+.3f"), interval, p, (row["better"] or "–").upper(),
            str(row["n"]),
        )  # fmt: skip
    print_table(table)
    console.print("p: Wilcoxon's signed-rank test, two-sided, not corrected for several labels.")
    if out is not None:
        click.echo(f"Figure: {out / 'differences.png'}")


def _number(value: float | None, how: str = ".3f") -> str:
    return "–" if value is None else format(value, how)
