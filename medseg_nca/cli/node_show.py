"""Tables of ``medseg-nca dicom-node``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from rich.markup import escape
from rich.table import Table

from medseg_nca.cli.console import make_console

_NO_RULE = "[yellow]no rule takes it[/]"


def show_explained(found: Sequence[Mapping[str, Any]]) -> None:
    """What the rules say to each series."""
    table = Table(box=None, pad_edge=False)
    table.add_column("series", overflow="fold")
    table.add_column("rule", overflow="fold")
    table.add_column("answer", overflow="fold")
    for one in found:
        name = f"{one['modality'] or '?'} {one['description']} ({one['files']} files)"
        rows = [(rule["rule"], " ".join(rule["reasons"]) or _models(one)) for rule in one["rules"]]
        rows = [(escape(rule), escape(answer)) for rule, answer in rows]
        if one["rule"] is None:
            rows.append(("", f"{_NO_RULE} {escape(one['refused'])}".rstrip()))
        rows += [("", f"[yellow]problem[/] {escape(text)}") for text in one["problems"]]
        for number, (rule, answer) in enumerate(rows):
            table.add_row("" if number else escape(name), rule, answer)
    make_console().print(table)


def show_listing(tree: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """The work of a node."""
    console = make_console()
    columns = {
        "series": ("key", "from", "files", "last", "state", "reason"),
        "jobs": (
            "id",
            "series",
            "version",
            "model",
            "state",
            "verdict",
            "delivery",
            "created",
            "reason",
        ),
        "deliveries": ("job", "destination", "state", "attempts", "due", "reason"),
        "dead_letters": ("job", "folder"),
    }
    for title, names in columns.items():
        table = Table(box=None, pad_edge=False, title=title.replace("_", " "), title_justify="left")
        for name in names:
            table.add_column(name, overflow="fold")
        for row in tree[title]:
            table.add_row(*(escape(_text(name, row.get(name))) for name in names))
        if tree[title]:
            console.print(table)
    if not any(tree.values()):
        console.print("The node has nothing.")


def _models(one: Mapping[str, Any]) -> str:
    return f"takes it: {', '.join(one['models'])}"


def _text(name: str, value: Any) -> str:
    if value is None:
        return ""
    if name in ("last", "created", "due"):
        return datetime.fromtimestamp(value).astimezone().isoformat(" ", "seconds")
    return str(value)[:12] if name in ("key", "series") else str(value)
