"""``medseg-nca train``: train a model."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from medseg_nca.cli.console import announce
from medseg_nca.cli.next_step import free_folder, name_of, say_next, settings_words
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
from medseg_nca.cli.plan_table import print_plan

if TYPE_CHECKING:
    from medseg_nca.config import RunSettings
    from medseg_nca.pipelines.train import RunResult

# Options that the next command repeats.
AGAIN = ("max_minutes", "seed", "device")


@click.command()
@config_option
@data_option(required=False)
@out_option("Run folder; a new one in runs/ if not given.", required=False)
@set_option
@click.option("--fold", type=int, help="Train only this fold, from 0 (of --folds, or of 5).")
@click.option(
    "--folds",
    type=click.IntRange(min=2),
    help="Train this many folds, and join their models where the task can.",
)
@click.option("--resume", is_flag=True, help="Go on with the run in --out.")
@click.option("--plan-only", is_flag=True, help="Prepare, plan and print the plan; train nothing.")
@click.option("--max-minutes", type=POSITIVE, help="Longest time of the training, in minutes.")
@seed_option
@device_option
@tracking_option
@click.option("--no-tracking", is_flag=True, help="Do not log to MLflow.")
@json_option
def train(
    config: str | None,
    data: Path | None,
    out: Path | None,
    overrides: tuple[str, ...],
    fold: int | None,
    folds: int | None,
    resume: bool,
    plan_only: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Train a model; the run folder gets weights, curves, pictures and the log.

    The settings name the task that is learned; it is segmentation, which needs --data, if they name
    none.

    Settings that neither a preset nor --set gives are decided from the data. This plan is printed
    with its reasons before the training, and stored in recipe.json; --plan-only ends there.

    Ctrl-C stops after the current iteration and keeps the state; the same command with --resume
    goes on as if it had not been stopped. The exit code is 5 if the trained model is no better than
    a constant answer.
    """
    if plan_only and resume:
        raise click.UsageError("--plan-only plans a new run; --resume goes on with one.")
    if resume and out is None:
        raise click.UsageError("--resume goes on with the run in --out, which is not given.")
    out = out or free_folder("runs", name_of(Path(config)) if config else "run")
    word, on = "Planning" if plan_only else "Training", "" if data is None else f" on {data}"
    announce(f"{word}{on}; the run folder is {out}.")
    from medseg_nca.cli.progress import ProgressBars
    from medseg_nca.config.loading import load_settings
    from medseg_nca.pipelines import train as pipeline

    settings = load_settings(config, (*overrides, *_as_overrides(options)))
    if plan_only:
        again = {"fold": fold, "folds": folds, **{key: options[key] for key in AGAIN}}
        words = [word for key, value in again.items() if value is not None
                 for word in (f"--{key.replace('_', '-')}", value)]  # fmt: skip
        if folds is not None or fold is not None:
            settings = pipeline.with_fold(settings, folds or 5, fold or 0)
        _plan(data, out, settings, (settings_words(config, overrides), words), as_json)
        return
    show = partial(print_plan, stderr=as_json)
    with ProgressBars() as bars:
        how: dict[str, Any] = {"resume": resume, "show": show, "job": bars.job}
        if folds is not None and fold is None:
            results = pipeline.run_folds(data, out, settings, folds, **how)
        else:
            if fold is not None:
                settings = pipeline.with_fold(settings, folds or 5, fold)
            results = [pipeline.run(data, out, settings, **how)]
    if os.environ.get("RANK", "0") == "0":  # torchrun starts several processes; only one prints
        _report(results, out, as_json)
        pipeline.raise_if_useless(results)


def _as_overrides(options: dict[str, Any]) -> list[str]:
    """The options that stand for settings, as ``--set`` writes them."""
    keys = {
        "training.max_minutes": options["max_minutes"],
        "seed": options["seed"],
        "device": options["device"],
        "tracking.uri": options["tracking_uri"],
        "tracking.enabled": False if options["no_tracking"] else None,
    }
    return [f"{key}={value}" for key, value in keys.items() if value is not None]


def _plan(
    data: Path | None,
    out: Path,
    settings: RunSettings,
    words: tuple[Sequence[object], ...],
    as_json: bool,
) -> None:
    """Plan only; the words repeat the command for the training that comes next."""
    from medseg_nca.pipelines import train as pipeline

    plan = pipeline.plan_only(data, out, settings)
    if as_json:
        print_json(plan.to_dict())
        return
    print_plan(plan)
    at = () if data is None else ("--data", data)
    first, last = words
    say_next("train", *first, *at, "--out", out, *last)


def _best(tree: dict[str, Any]) -> str:
    if tree["best_score"] is None:
        return "nothing to validate on"
    score, where = tree["best_score"], tree["best_iteration"]
    return f"best validation {tree['score']} {score:.4f} at iteration {where}"


def _report(results: list[RunResult], out: Path, as_json: bool) -> None:
    from medseg_nca.pipelines.run_folder import ENSEMBLE, training_of

    trees = [result.to_dict() for result in results]
    if as_json:
        print_json(trees if len(trees) > 1 else trees[0])
        return
    for tree in trees:
        click.echo(
            f"{tree['run']}: {tree['parameters']} parameters, {tree['iterations']} iterations in "
            f"{tree['seconds'] / 60:.1f} min ({tree['reason']}); {_best(tree)}."
        )
    if any(result.training.learned is False for result in results):
        return
    joined = training_of(out / ENSEMBLE) if len(results) > 1 else {}
    if "held_out" in joined and "data" in joined:
        click.echo(f"{joined['run']}: all {len(results)} as one model.")
        say_next("evaluate", "--model", joined["run"], "--data", joined["data"])
        return
    first = results[0]
    side = () if first.held_out == "test" else ("--split", first.held_out)
    at = () if first.data is None else ("--data", first.data)
    say_next("evaluate", "--model", first.run, *at, *side)
