"""Print the plan of a run as a table: setting, value, reason."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from medseg_nca.cli.console import is_terminal, make_console

if TYPE_CHECKING:
    from medseg_nca.pipelines.run_plan import RunPlan


def print_plan(plan: RunPlan, *, stderr: bool = False) -> None:
    """Print the plan of a run: as a table in a terminal, else as a line for each setting.

    Args:
        plan: the plan of the run.
        stderr: whether to print on standard error, because standard output is for programs.
    """
    if not is_terminal(stderr):
        for decision in plan.decisions:
            value = in_short(decision.value).replace("\n", "; ")
            click.echo(f"{decision.key}: {value}  # {decision.reason}", err=stderr)
        return
    from rich.table import Table

    title = "The plan; --set KEY=VALUE changes a line"
    table = Table(title=title, title_justify="left")
    table.add_column("setting", no_wrap=True)
    table.add_column("value", overflow="fold")
    table.add_column("reason", overflow="fold")
    for decision in plan.decisions:
        table.add_row(decision.key, in_short(decision.value), decision.reason)
    make_console(stderr=stderr).print(table)


def in_short(value: Any) -> str:
    """Return a value as ``--set`` takes it; levels are given in words."""
    if isinstance(value, list) and value and isinstance(value[0], Mapping):
        return "\n".join(_level(level) for level in value)
    if isinstance(value, list):
        return "[" + ", ".join(map(in_short, value)) + "]"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _level(level: Mapping[str, Any]) -> str:
    """Return a level in words: the voxels of its cells, its steps, and its patches."""
    text = f"cells of {_times(level['scale'])}, {_times(level['steps'], '-')} steps"
    if level["patch"] is None:
        return text
    drawn = "patches" if level["patches"] == 1 else f"{level['patches']} patches each"
    return f"{text}, {drawn} of {_times(level['patch'])}"


def _times(value: Any, sign: str = "x") -> str:
    return sign.join(map(str, value)) if isinstance(value, list) else str(value)
