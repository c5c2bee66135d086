"""Whether the rules of a node can be read, and whether each can ever be the one that counts."""

from __future__ import annotations

from collections.abc import Iterator

from medseg_nca.errors import MedsegError
from medseg_nca.findings import DoctorFinding
from medseg_nca.serving.node.routes import parse_route
from medseg_nca.serving.node.settings import EXAMPLE, NodeSettings


def examine_rules(settings: NodeSettings) -> Iterator[DoctorFinding]:
    """Read each rule."""
    if not settings.route:
        advice = f"Give --route {EXAMPLE!r}"
        text = "no rule says which model computes a series"
        yield DoctorFinding("rules", "route", "problem", text, advice)
    all_taken = 0
    for number, text in enumerate(settings.route, 1):
        name = f"rule {number}"
        try:
            route = parse_route(text)
        except MedsegError as error:
            yield DoctorFinding("rules", name, "problem", error.message, error.hint or "")
            continue
        if all_taken:
            advice = f"Put rule {all_taken} behind it: the first rule that fits counts."
            shown = f"{route.text}: never asked, since rule {all_taken} takes every series"
            yield DoctorFinding("rules", name, "note", shown, advice)
        else:
            yield DoctorFinding("rules", name, "ok", route.text)
        if not route.conditions:
            all_taken = all_taken or number
