"""``medseg-nca search status|best|export``: look at a search, and take its best settings."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from medseg_nca.cli.console import print_table
from medseg_nca.cli.next_step import say_next
from medseg_nca.cli.options import FOLDER, json_option, print_json

if TYPE_CHECKING:
    from optuna.study import Study

F = TypeVar("F", bound=Callable[..., Any])

_study_option = click.option(
    "--study", "name", metavar="NAME", help="Name of the study; needed if there are several."
)
_trial_option = click.option("--trial", type=click.IntRange(min=0), help="A trial; else the best.")
_storage_option = click.option(
    "--storage", metavar="URL", envvar="MEDSEG_SEARCH_STORAGE", help="Storage of the search."
)
NONE = "–"


def _place(*names: str) -> Callable[[F], F]:
    """Return the options that say where the search is."""

    def decorate(command: F) -> F:
        command = _study_option(command)
        command = _storage_option(command)
        return click.option(*names, "folder", type=FOLDER, help="Folder of the search.")(command)

    return decorate


@click.command()
@_place("--out", "--search")
@json_option
def status(folder: Path | None, storage: str | None, name: str | None, as_json: bool) -> None:
    """Show every trial of a search: its state, its scores and its settings."""
    with _opened(folder, storage, name) as study:
        from medseg_nca.search.results import describe_trial
        from medseg_nca.search.study import wanted_trials

        objectives = study.user_attrs["objectives"]
        rows = [describe_trial(trial, objectives) for trial in wanted_trials(study)]
        wanted = ("config", "task", "budget", "folds", "space")
        facts = {key: study.user_attrs[key] for key in wanted}
    if as_json:
        print_json({"study": study.study_name, "objectives": objectives, **facts, "trials": rows})
        return
    _print_rows(study.study_name, objectives, list(facts["space"]), rows)
    counts = {word: sum(row["state"] == word for row in rows) for row in rows
              for word in (row["state"],)}  # fmt: skip
    click.echo("; ".join(f"{count} {word}" for word, count in counts.items()) + ".")


@click.command()
@_place("--out", "--search")
@json_option
def best(folder: Path | None, storage: str | None, name: str | None, as_json: bool) -> None:
    """Show the best trial, or with several objectives those that no other surpasses."""
    with _opened(folder, storage, name) as study:
        from medseg_nca.search.results import chosen_trial, describe_trial, pareto_front

        objectives, space = study.user_attrs["objectives"], study.user_attrs["space"]
        chosen_trial(study, None)
        front = pareto_front(study, study.get_trials(deepcopy=False))
        rows = [describe_trial(trial, objectives) for trial in front]
    if as_json:
        print_json(rows)
        return
    _print_rows(study.study_name, objectives, list(space), rows)
    errors = "" if len(rows) == 1 else " --trial N takes one of them."
    click.echo(
        f"`medseg-nca search export` writes the settings of trial {rows[0]['trial']}.{errors}"
    )


@click.command()
@_place("--search")
@_trial_option
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="File of the preset, such as best.yaml.",
)
def export(
    folder: Path | None, storage: str | None, name: str | None, trial: int | None, out: Path
) -> None:
    """Write the settings of the best trial, or of another, as a preset for `medseg-nca train`."""
    with _opened(folder, storage, name) as study:
        from medseg_nca.pipelines.search_export import write_preset
        from medseg_nca.search.results import chosen_trial, values_of

        chosen = chosen_trial(study, trial)
        write_preset(study, chosen, out)
        values = values_of(chosen, study.user_attrs["objectives"])
    scores = ", ".join(f"{key} {value:.4g}" for key, value in values.items())
    click.echo(f"{out}: the settings of trial {chosen.number} ({scores}).")
    say_next("train", "--config", out)


@contextmanager
def _opened(folder: Path | None, storage: str | None, name: str | None) -> Iterator[Study]:
    """Open a study for the block, in which a storage that does not answer is told in words."""
    from medseg_nca.search.check import check_packages

    if folder is None and storage is None:
        raise click.UsageError("Name the folder of the search, or its storage with --storage.")
    check_packages()
    from medseg_nca.search.storage import DATABASE, SearchStorage, storage_url, told_plainly
    from medseg_nca.search.study import find_study

    source = click.get_current_context().get_parameter_source("storage")
    if folder is not None and source == ParameterSource.ENVIRONMENT:
        # A folder that has a storage is meant, even where the environment names another.
        storage = None if (folder / DATABASE).is_file() else storage
    found = SearchStorage(storage_url(storage, folder or Path()), create=False)
    with told_plainly(found.name):
        yield find_study(found, name)


def _print_rows(
    title: str, objectives: Sequence[str], keys: Sequence[str], rows: Sequence[Mapping[str, Any]]
) -> None:
    from rich.table import Table

    table = Table(title=title)
    for heading in ("trial", "state", *objectives, "parameters", "seconds", *keys, "error"):
        table.add_column(heading, overflow="fold")
    for row in rows:
        values = [row["values"].get(name) for name in objectives]
        if row["state"] == "pruned":
            values[0] = row["last"]
        cells = [row["trial"], row["state"], *values, row["parameters"], row["seconds"]]
        cells += [row["params"].get(key) for key in keys] + [row["error"]]
        table.add_row(*(_cell(cell) for cell in cells))
    print_table(table)


def _cell(value: Any) -> str:
    if value is None:
        return NONE
    return f"{value:.4g}" if isinstance(value, float) else str(value)
