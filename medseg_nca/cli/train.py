"""``medseg-nca train``."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.option("--config", "-c", required=True, help="Preset name or YAML file.")
@click.option(
    "--data", "-d", type=click.Path(path_type=Path), required=True,
    help="Data set, raw or prepared by `preprocess`.",
)  # fmt: skip
@click.option("--out", "-o", type=click.Path(path_type=Path), required=True, help="Run folder.")
@click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE",
    help="Replace a setting, for example training.lr=1e-3. Can be repeated.",
)  # fmt: skip
@click.option("--fold", type=int, help="Train this fold only (with --folds, default 5).")
@click.option("--folds", type=click.IntRange(min=2), help="Cross-validate with this many folds.")
@click.option("--resume", is_flag=True, help="Go on with the run in --out.")
@click.option("--max-minutes", type=click.FloatRange(min=0, min_open=True), help="Time to train.")
@click.option("--seed", type=int, help="Seed of everything that is random.")
@click.option("--device", help="auto, cpu or cuda.")
@click.option("--tracking-uri", help="MLflow store; default: ./mlflow.db.")
@click.option("--no-tracking", is_flag=True, help="Do not log to MLflow.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def train(
    config: str,
    data: Path,
    out: Path,
    overrides: tuple[str, ...],
    fold: int | None,
    folds: int | None,
    resume: bool,
    max_minutes: float | None,
    seed: int | None,
    device: str | None,
    tracking_uri: str | None,
    no_tracking: bool,
    as_json: bool,
) -> None:
    """Train a model; the run folder gets weights, curves, overlays and the log.

    Ctrl-C stops after the current iteration and keeps the state; the same command with --resume
    goes on as if nothing had happened.
    """
    from medseg_nca.cli.progress import TrainingProgress
    from medseg_nca.config.loading import load_settings
    from medseg_nca.pipelines import train as pipeline

    options = {
        "training.max_minutes": max_minutes,
        "seed": seed,
        "device": device,
        "tracking.uri": tracking_uri,
        "tracking.enabled": False if no_tracking else None,
    }
    extra = [f"{key}={value}" for key, value in options.items() if value is not None]
    settings = load_settings(config, (*overrides, *extra))
    with TrainingProgress() as progress:
        if folds is not None and fold is None:
            results = pipeline.run_folds(
                data, out, settings, folds, resume=resume, observers=(progress,)
            )
        else:
            if fold is not None:
                settings = pipeline.with_fold(settings, folds or 5, fold)
            results = [pipeline.run(data, out, settings, resume=resume, observers=(progress,))]
    _report(results, as_json)


def _report(results: list, as_json: bool) -> None:  # type: ignore[type-arg]
    import json
    import os

    if os.environ.get("RANK", "0") != "0":
        return
    trees = [result.to_dict() for result in results]
    if as_json:
        click.echo(json.dumps(trees if len(trees) > 1 else trees[0], indent=2))
        return
    for tree in trees:
        click.echo(
            f"{tree['run']}: {tree['parameters']} parameters, {tree['iterations']} iterations in "
            f"{tree['seconds'] / 60:.1f} min ({tree['reason']}); best validation Dice "
            f"{tree['best_score']:.4f} at iteration {tree['best_iteration']}."
        )
    click.echo(f"Next: medseg-nca evaluate --model {trees[0]['run']} --data DIR --out DIR")
