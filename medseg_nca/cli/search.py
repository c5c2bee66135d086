"""``medseg-nca search``: find the best settings by many short trainings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from medseg_nca.cli.console import announce
from medseg_nca.cli.next_step import name_of, say_next
from medseg_nca.cli.options import (
    POSITIVE,
    config_option,
    data_option,
    device_option,
    json_option,
    out_option,
    print_json,
    seed_option,
    set_option,
    tracking_option,
)
from medseg_nca.cli.search_show import best, export, status

if TYPE_CHECKING:
    from medseg_nca.config import RunSettings
    from medseg_nca.pipelines.search import SearchRequest, SearchResult
    from medseg_nca.search.space import Space

# What a search is for, without --trials.
TRIALS = 20


@click.group(invoke_without_command=True)
@config_option
@data_option(required=False)
@out_option("Folder of the search; searches/ and the name of the settings if not given.",
            required=False)  # fmt: skip
@set_option
@click.option(
    "--space",
    "space_file",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="YAML file of the settings to search and their values; a space of the model's family if "
    "neither this nor --tune is given.",
)
@click.option(
    "--tune",
    "tuned",
    multiple=True,
    metavar="KEY=RANGE",
    help="Search one setting: training.lr=log:1e-4..1e-2, model.cell.fire_rate=0.3..0.9, "
    "model.cell.channels=int:8..32:8, or training.optimiser=adamw,muon. May be repeated.",
)
@click.option(
    "--trials",
    type=click.IntRange(min=1),
    default=TRIALS,
    show_default=True,
    help="Number of trials in all, those of an earlier call among them.",
)
@click.option("--minutes", type=POSITIVE, help="Time of this call; what is at work is kept.")
@click.option(
    "--budget",
    metavar="500|90s|2min",
    help="How long each trial trains, in iterations or time; as the settings say if not given.",
)
@click.option(
    "--folds",
    type=click.IntRange(min=2),
    help="Train each trial on this many folds; its score is their mean.",
)
@click.option(
    "--objective",
    "objectives",
    metavar="NAME,...",
    multiple=True,
    help="What is searched for: the score of the task (dice, ...; the default), latency_ms, "
    "parameters, or several of them. May be repeated.",
)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Number of parallel trials; they share the cores.",
)
@click.option(
    "--storage",
    metavar="URL",
    envvar="MEDSEG_SEARCH_STORAGE",
    help="Database of the trials, shared by several machines: postgresql://USER@HOST/NAME. "
    "A SQLite file in --out if not given.",
)
@click.option(
    "--study", metavar="NAME", help="Name of the study; that of the settings if not given."
)
@seed_option
@device_option
@tracking_option
@click.option("--no-tracking", is_flag=True, help="Do not log to MLflow.")
@json_option
@click.pass_context
def search(ctx: click.Context, /, **options: Any) -> None:
    """Search for the best settings: many short trainings, compared on the validation part.

    The same command goes on with a search that was stopped or killed, and the same command on
    another machine, with the same --storage, joins in. The test part of the data is never read.

    The best settings are written to best.yaml in --out, which `medseg-nca train --config` takes.
    """
    if ctx.invoked_subcommand is None:
        _search(options)


search.add_command(status)
search.add_command(best)
search.add_command(export)


def _search(options: dict[str, Any]) -> None:
    config, data = options["config"], options["data"]
    name = name_of(Path(config)) if config else "search"
    # The same folder at every call, so that the same command goes on; another study is refused.
    out = options["out"] or Path("searches", name)
    announce(f"Searching; the folder of the search is {out}.")
    from medseg_nca.search.check import check_packages

    check_packages()
    from medseg_nca.cli.progress import ProgressBars
    from medseg_nca.pipelines import search as pipeline

    request = _request(options, name, out)
    with ProgressBars() as bars:
        result = pipeline.run(request, bars.job)
    if options["as_json"]:
        print_json(result.to_dict())
        return
    _report(result, data)


def _request(options: dict[str, Any], name: str, out: Path) -> SearchRequest:
    from medseg_nca.config.loading import load_settings
    from medseg_nca.pipelines.search import SearchRequest
    from medseg_nca.search.budget import parse_budget

    keys = {
        "seed": options["seed"],
        "device": options["device"],
        "tracking.uri": options["tracking_uri"],
        "tracking.enabled": False if options["no_tracking"] else None,
    }
    own = [f"{key}={value}" for key, value in keys.items() if value is not None]
    settings = load_settings(options["config"], (*options["overrides"], *own))
    budget = options["budget"]
    words = ",".join(options["objectives"]).split(",")
    names = tuple(word.strip() for word in words if word.strip())
    return SearchRequest(
        options["config"] or "the defaults", settings, options["data"], out,
        _space(options, settings), options["trials"], options["minutes"], options["storage"],
        options["study"] or name, options["folds"] or 1, names, options["workers"],
        None if budget is None else parse_budget(budget),
    )  # fmt: skip


def _space(options: dict[str, Any], settings: RunSettings) -> Space:
    from medseg_nca.search.space import default_space, parse_tune, read_space, with_tuned

    file, tuned = options["space_file"], [parse_tune(text) for text in options["tuned"]]
    if file is not None:
        return with_tuned(read_space(file), tuned)
    return with_tuned((), tuned) if tuned else default_space(settings)


def _report(result: SearchResult, data: Path | None) -> None:
    state, best = result.state, result.best
    scores = ", ".join(f"{name} {value:.4g}" for name, value in best["values"].items())
    click.echo(
        f"{result.out}: {state.complete} trials complete, {state.pruned} pruned, {state.failed} "
        f"failed. Best: trial {best['trial']}, {scores}."
    )
    if len(result.front) > 1:
        shown = ", ".join(map(str, result.front))
        click.echo(f"Trials that no other surpasses in every objective: {shown}.")
    if result.report is not None:
        click.echo(f"Report: {result.report}")
    at = () if data is None else ("--data", data)
    say_next("train", "--config", result.preset, *at)
