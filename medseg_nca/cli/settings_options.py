"""Options of a command that are the fields of its settings, with ``--settings FILE``."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from medseg_nca.config.base import Settings
from medseg_nca.config.sources import (
    AlsoFrom,
    Metavar,
    Resolved,
    flag_of,
    is_secret,
    mark_of,
    resolve,
)

F = TypeVar("F", bound=Callable[..., Any])
S = TypeVar("S", bound=Settings)


class FieldType(click.ParamType):  # type: ignore[type-arg]
    """Takes what a field of settings takes."""

    def __init__(self, model: type[Settings], key: str) -> None:
        self._model, self._key = model, key
        self.name = key

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the value as it was given; fail if the field refuses it."""
        try:
            self._model.model_validate({self._key: value})
        except ValidationError as error:
            self.fail(f"{error.errors()[0]['msg'].removeprefix('Value error, ')}.", param, ctx)
        return value

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str | None:
        """What the help shows in place of a value."""
        field = self._model.model_fields[self._key]
        mark = mark_of(field, Metavar)
        if mark is not None:
            return str(mark.text)
        return {int: "NUMBER", float: "NUMBER"}.get(field.annotation, "TEXT")  # type: ignore[arg-type]


def settings_options(
    model: type[Settings], prefix: str, *, shown: tuple[str, ...] | None = None,
    also: type[Settings] | None = None, without: tuple[str, ...] = (),
) -> Callable[[F], F]:  # fmt: skip
    """Return the options of a command: a flag for each field, and ``--settings FILE``.

    Args:
        model: of the settings; the descriptions of its fields are the help.
        prefix: of the variables of the environment.
        shown: keys that the help has besides ``--settings``; None for all.
        also: other settings, whose fields are options too; where both have one, it is the first's.
        without: keys that the command has options of its own for.
    """

    def decorate(command: F) -> F:
        own = model.__annotations__  # before those of what it is based on
        fields = sorted(model.model_fields.items(), key=lambda item: item[0] not in own)
        each = [(model, key, field) for key, field in fields if key not in without]
        each += [
            (also, key, field)
            for key, field in (also.model_fields.items() if also is not None else ())
            if also is not None and key not in model.model_fields
        ]
        for source, key, field in reversed(each):
            if not is_secret(field):
                hidden = shown is not None and key not in shown
                command = _option(source, key, field, hidden)(command)
        return click.option(
            "--settings", "settings_file", metavar="FILE",
            type=click.Path(path_type=Path, dir_okay=False),
            help="YAML file with any of these settings (max_body for --max-body). "
            f"{prefix}MAX_BODY in the environment wins over it, and a flag over both.",
        )(command)  # fmt: skip

    return decorate


def resolve_options(
    model: type[S], prefix: str, file: Path | None, given: Mapping[str, Any]
) -> Resolved[S]:
    """Find the settings that hold, from file, environment and the flags of a command.

    Raises:
        ConfigError: as :func:`medseg_nca.config.sources.resolve`.
    """
    return resolve(model, prefix=prefix, environment=os.environ, flags=given, file=file)


def _option(model: type[Settings], key: str, field: FieldInfo, hidden: bool) -> Callable[[F], F]:
    flag, text = flag_of(key), field.description or ""
    if field.annotation is bool:
        return click.option(
            f"{flag}/--no-{flag.removeprefix('--')}", key, default=None, hidden=hidden, help=text
        )
    several = str(field.annotation).startswith("tuple[")
    return click.option(
        flag, key, multiple=several, hidden=hidden, type=FieldType(model, key),
        help=f"{text}{_default(field)}",
    )  # fmt: skip


def _default(field: FieldInfo) -> str:
    value = field.default
    other = mark_of(field, AlsoFrom)
    parts = [] if other is None else [f"env var: {other.variable}"]
    if value not in (None, ()):
        shown = ",".join(value) if isinstance(value, tuple) else value
        parts.append(f"default: {shown:g}" if isinstance(value, float) else f"default: {shown}")
    return f"  [{'; '.join(parts)}]" if parts else ""
