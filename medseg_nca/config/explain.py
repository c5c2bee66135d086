"""What is wrong with settings, in words."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from medseg_nca.config.bounds import plain
from medseg_nca.suggest import nearest

# An error names at most this many faults.
_MOST_FAULTS = 20


def explain(model: type[BaseModel], error: ValidationError) -> str:
    """Say in words what is wrong with settings: each key, what is allowed and what was given.

    However large the settings are, the text is short, and has nothing that a terminal would obey.
    """
    details = _innermost(error.errors(include_url=False))
    lines = dict.fromkeys(_explain(model, detail) for detail in details[:_MOST_FAULTS])
    more = len(details) - _MOST_FAULTS
    shown = [plain(line) for line in lines] + ([f"and {more} more"] if more > 0 else [])
    return "; ".join(shown)


def _innermost(details: list[ErrorDetails]) -> list[ErrorDetails]:
    """Leave out that a list is no word ("auto") where the fault is inside the list.

    The location of a fault in a union ends in the member that was tried.
    """
    inside = {d["loc"][:n] for d in details for n in range(len(d["loc"]) - 1)}
    return [
        d
        for d in details
        if not (d["loc"] and str(d["loc"][-1]).startswith("literal["))
        or d["loc"][:-1] not in inside
    ]


def _explain(model: type[BaseModel], detail: ErrorDetails) -> str:
    """One line on one fault, its key written as ``--set`` takes it."""
    unknown_key = detail["type"] == "extra_forbidden"
    path, siblings = _follow(model, detail["loc"], keep_last=unknown_key)
    key = ".".join(path) or "settings"
    if unknown_key:
        guess = nearest(path[-1], siblings)
        question = (
            f"; did you mean {guess!r}?" if guess else f". Known here: {', '.join(siblings)}."
        )
        return f"unknown key {key!r}{question}"
    value = detail["input"]
    shown = "" if isinstance(value, Mapping) else f" (got {reprlib.repr(value)})"
    return f"{key}: {detail['msg'].removeprefix('Value error, ')}{shown}"


def _follow(
    model: type[BaseModel], location: tuple[int | str, ...], keep_last: bool
) -> tuple[list[str], list[str]]:
    """Return an error's key as the user wrote it, and the known keys beside its last part.

    Pydantic's location also names the member of a union that it tried ("nca", "int"): those are
    left out. With ``keep_last`` the last part is a key of the user's that no model knows.
    """
    path: list[str] = []
    owners = current = [model]
    for position, part in enumerate(location):
        fields = [m.model_fields[str(part)].annotation for m in current if part in m.model_fields]
        if fields:
            owners, current = current, [found for a in fields for found in _models_in(a)]
        elif keep_last and position == len(location) - 1:
            owners = current
        elif not isinstance(part, int):
            current = [m for m in current if _tag(m) == part] or current
            continue
        path.append(str(part))
    return path, sorted({name for m in owners for name in m.model_fields})


def _tag(model: type[BaseModel]) -> object:
    family = model.model_fields.get("family")
    return family.default if family else None


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for part in get_args(annotation) for found in _models_in(part)]
