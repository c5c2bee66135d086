"""The plan of a run as a table: setting, value, reason."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from medseg_nca.cli.console import make_console, print_table

if TYPE_CHECKING:
    from medseg_nca.pipelines.run_plan import RunPlan


def print_plan(plan: RunPlan, *, stderr: bool = False) -> None:
    """Print what a run does and why.

    Args:
        plan: of the run.
        stderr: where standard output is for programs.
    """
    from rich.table import Table

    table = Table(
        title="The plan, each line to be changed by --set KEY=VALUE", title_justify="left"
    )
    table.add_column("setting", no_wrap=True)
    table.add_column("value", overflow="fold")
    table.add_column("reason", overflow="fold")
    for decision in plan.decisions:
        table.add_row(decision.key, in_short(decision.value), decision.reason)
    if stderr:
        make_console(stderr=True).print(table)
    else:
        print_table(table)


def in_short(value: Any) -> str:
    """A value as ``--set`` takes it; levels in words."""
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
    """One level: cells of so many voxels, steps, and the patch it learns on."""
    text = f"cells of {_times(level['scale'])}, {_times(level['steps'], '-')} steps"
    return text if level["patch"] is None else f"{text}, patches of {_times(level['patch'])}"


def _times(value: Any, sign: str = "x") -> str:
    return sign.join(map(str, value)) if isinstance(value, list) else str(value)
