"""``medseg-nca preprocess``: prepare a data set."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from medseg_nca.cli.console import announce
from medseg_nca.cli.next_step import free_folder, name_of, say_next, settings_words
from medseg_nca.cli.options import (
    check_workers,
    config_option,
    data_option,
    fresh_option,
    json_option,
    keeping_cases,
    out_option,
    print_json,
    scheduler_option,
    set_option,
    workers_option,
)

if TYPE_CHECKING:
    from medseg_nca.datasets.prepared import PreparedStore


@click.command()
@data_option()
@out_option("Folder for the prepared data set.")
@config_option
@set_option
@workers_option
@scheduler_option
@fresh_option
@json_option
def preprocess(
    data: Path,
    out: Path,
    config: str | None,
    overrides: tuple[str, ...],
    workers: int | None,
    scheduler: str | None,
    fresh: bool,
    as_json: bool,
) -> None:
    """Prepare a data set for training: measure it, make a plan, and prepare every case.

    Results are kept under a hash of content and settings: after an interruption the same command
    goes on, and prepares only cases that are missing or have changed. A case that fails does not
    stop the others; the exit code is then 3.
    """
    check_workers(workers, scheduler)
    announce(f"Preparing {data} in {out}.")
    from medseg_nca.cli.progress import ProgressBars
    from medseg_nca.config.loading import load_settings
    from medseg_nca.datasets.prepared import PreparedStore, is_prepared
    from medseg_nca.errors import PartialFailure
    from medseg_nca.pipelines import preprocess as pipeline

    settings = load_settings(config, overrides)
    try:
        request = pipeline.PreprocessRequest(data, out, settings, workers, scheduler, fresh)
        with keeping_cases(), ProgressBars() as bars:
            store = pipeline.run(request, bars.job)
    except PartialFailure:
        if as_json and is_prepared(out):
            print_json(_summary(PreparedStore.open(out)))
        raise
    if as_json:
        print_json(_summary(store))
        return
    size = " x ".join(map(str, store.plan.crop_size))
    click.echo(
        f"{out}: {len(store.cases)} cases of {store.name}, labels {', '.join(store.labels.names)}, "
        f"samples of {size} voxels."
    )
    options = settings_words(config, overrides)
    say_next("train", *options, "--data", out, "--out", free_folder("runs", name_of(out)))


def _summary(store: PreparedStore) -> dict[str, object]:
    return {
        "folder": str(store.folder),
        "name": store.name,
        "dataset_hash": store.dataset_hash,
        "cases": [case.id for case in store.cases],
        "failed": {case.id: case.error for case in store.failed},
        "labels": store.labels.model_dump(mode="json"),
        "plan": store.plan.model_dump(mode="json"),
    }
