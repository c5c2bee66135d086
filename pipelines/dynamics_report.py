"""The report of what a trained automaton does over time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from medseg_nca.viz.report import Block, Items, Picture, Section, Table, Text, write_report

Tree = dict[str, Any]


def write_dynamics_report(tree: Tree, out: Path) -> Path:
    """Write ``report.html`` from the tree of ``dynamics.json`` and the figures beside it.

    Raises:
        OutputError: if it cannot be written.
    """
    probes = sorted(tree["probes"].items(), key=lambda item: (item[1]["order"], item[0]))
    sections = [_section(found, out) for _, found in probes]
    notes = tree.get("notes", ())
    if notes:
        sections.insert(0, Section("Notes", [Items(list(notes))]))
    if tree["left_out"]:
        items = [f"{name}: {reason}" for name, reason in tree["left_out"].items()]
        sections.append(Section("Left out", [Items(items)]))
    steps = " / ".join(map(str, tree["model"]["trained_steps"])) or "none"
    return write_report(
        out / "report.html",
        f"Dynamics of {tree['model']['name']}",
        sections,
        subtitle=f"{tree['task']}, {tree['data']['name'] or 'no data set'}, "
        f"{tree['split']['name']}, {len(tree['cases'])} cases",
        highlights={"trained steps of the levels": steps, "cases": str(len(tree["cases"])),
                    "probes": str(len(probes))},
        footer=f"medseg-nca {tree['package_version']}; weights {tree['model']['weights_sha256']}",
    )  # fmt: skip


def _section(found: Tree, out: Path) -> Section:
    blocks: list[Block] = [Text(found["about"])]
    if found["sentences"]:
        blocks.append(Items(found["sentences"]))
    if found["table"]:
        blocks.append(Table(found["columns"], found["table"], f"All rows: {found['csv']}"))
    blocks += [Picture(out / path, text) for path, text in found["figures"].items()]
    return Section(found["title"], blocks)
