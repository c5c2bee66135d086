"""Options that several commands share, with the same spelling and help in all of them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


class FiniteRange(click.FloatRange):
    """A number within bounds; "nan" and "inf", which Python takes for numbers, are refused."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the number; fail if it is not finite or out of bounds."""
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


POSITIVE = FiniteRange(min=0, min_open=True)
# The seeds that torch accepts.
SEED = click.IntRange(min=0, max=2**63 - 1)
FOLDER = click.Path(path_type=Path, file_okay=False)
EXISTING_FOLDER = click.Path(path_type=Path, file_okay=False, exists=True)
EXISTING = click.Path(path_type=Path, exists=True)

config_option = click.option(
    "--config",
    metavar="NAME|FILE",
    help="Preset name (see `medseg-nca config list`) or path to a YAML file.",
)
set_option = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Override one setting, for example training.lr=1e-3. May be repeated.",
)
device_option = click.option(
    "--device",
    metavar="auto|cpu|cuda",
    help="Where to compute; auto takes a GPU if there is one.",
)
engine_option = click.option(
    "--engine",
    default="auto",
    show_default=True,
    metavar="auto|cpu|reference|NAME",
    help="Who computes an automaton; auto takes the fastest engine that can, NAME is one of "
    "another package.",
)
split_option = click.option(
    "--split",
    type=click.Choice(["test", "val", "train", "all"]),
    default="test",
    show_default=True,
    help="Side of the run's split; a data set that the run did not split is taken whole.",
)
seed_option = click.option("--seed", type=SEED, help="Seed of everything random.")
workers_option = click.option(
    "--workers",
    type=click.IntRange(min=0),
    help="Number of parallel processes; one for each CPU core if not given.",
)
one_worker_option = click.option(
    "--workers",
    type=click.IntRange(min=1),
    help="Number of parallel processes, each with a copy of the model; one if not given, which "
    "uses all cores.",
)
scheduler_option = click.option(
    "--scheduler",
    metavar="tcp://HOST:PORT",
    help="Spread the cases over the workers of this Dask scheduler, which must see the folders of "
    "data and results (extra 'cluster').",
)
fresh_option = click.option(
    "--fresh", is_flag=True, help="Do all cases again, also those that are finished."
)
json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print the result as JSON on standard output."
)
tracking_option = click.option(
    "--tracking-uri",
    metavar="URI",
    envvar="MLFLOW_TRACKING_URI",
    help="MLflow tracking store, for example sqlite:///mlflow.db or http://host:5000.",
)
model_option = click.option(
    "--model",
    required=True,
    metavar="RUN|URI|zoo:NAME",
    help="A run folder, models:/NAME@ALIAS, models:/NAME/VERSION, runs:/ID/model or zoo:NAME.",
)


def data_option(required: bool = True) -> Callable[[F], F]:
    """Return the option ``--data PATH``; the path must exist."""
    return click.option(
        "--data", type=EXISTING, required=required, help="Data set: a folder, or a datalist file."
    )


def out_option(text: str = "Folder for the results.", required: bool = True) -> Callable[[F], F]:
    """Return the option ``--out DIR``; the folder is created if it does not exist."""
    return click.option("--out", type=FOLDER, required=required, help=text)


def check_workers(workers: int | None, scheduler: str | None) -> None:
    """Check that ``--workers`` is not given with ``--scheduler``, which has its own workers.

    Raises:
        click.UsageError: if both are given.
    """
    if workers is not None and scheduler is not None:
        raise click.UsageError(
            "--workers is for this machine; a --scheduler decides on its own workers."
        )


@contextmanager
def keeping_cases(kept: bool = True, what: str = "cases") -> Iterator[None]:
    """Turn Ctrl-C into an error that says what becomes of finished cases.

    Args:
        kept: whether they are kept.
        what: what is finished one by one.

    Raises:
        Interrupted: if Ctrl-C was pressed inside the block.
    """
    from medseg_nca.errors import Interrupted

    try:
        yield
    except KeyboardInterrupt as interrupt:
        if not kept:
            raise Interrupted(
                "Interrupted; the results are not complete.",
                hint="The same command begins anew.",
            ) from interrupt
        raise Interrupted(
            f"Interrupted; the finished {what} are kept.",
            hint="The same command goes on from here.",
        ) from interrupt


def print_json(tree: object) -> None:
    """Print ``tree`` as JSON on standard output, for other programs."""
    click.echo(json.dumps(tree, indent=2, default=str, allow_nan=False))
