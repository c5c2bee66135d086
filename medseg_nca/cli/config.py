"""``medseg-nca config``: list presets, and show and compare settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from medseg_nca.cli.options import json_option, print_json, set_option


@click.group()
def config() -> None:
    """List, show and compare settings."""


@config.command("list")
@json_option
def list_presets(as_json: bool) -> None:
    """List the presets that come with the package."""
    from medseg_nca.config.presets import describe_preset, preset_names

    groups = {"run": "", "model": "model"}
    found = {
        kind: {name: describe_preset(name, group) for name in preset_names(group)}
        for kind, group in groups.items()
    }
    if as_json:
        print_json(found)
        return
    for kind, presets in found.items():
        click.secho(f"{kind} presets", bold=True)
        width = max(map(len, presets), default=0)
        for name, text in presets.items():
            click.echo(f"  {name:<{width}}  {text}")


@config.command()
@click.argument("name", required=False)
@set_option
@json_option
def show(name: str | None, overrides: tuple[str, ...], as_json: bool) -> None:
    """Print every setting of the preset NAME (or file, or the defaults), as a run would see it."""
    from medseg_nca.config.loading import load_settings, to_yaml

    settings = load_settings(name, overrides)
    if as_json:
        print_json(settings.model_dump(mode="json"))
    else:
        click.echo(to_yaml(settings), nl=False)


@config.command()
def schema() -> None:
    """Print the JSON schema of all settings, for editors and other programs."""
    from medseg_nca.config import RunSettings

    print_json(RunSettings.model_json_schema())


@config.command()
@click.argument("first")
@click.argument("second")
@json_option
def diff(first: str, second: str, as_json: bool) -> None:
    """Print the settings in which the presets or files FIRST and SECOND differ."""
    from medseg_nca.config.loading import load_settings

    left, right = (
        _flatten(load_settings(name).model_dump(mode="json")) for name in (first, second)
    )
    keys = [key for key in {**left, **right} if left.get(key) != right.get(key)]
    if as_json:
        print_json({key: [left.get(key), right.get(key)] for key in keys})
        return
    for key in keys:
        click.echo(f"{key}: {left.get(key)} -> {right.get(key)}")


def _flatten(tree: Any, prefix: str = "") -> dict[str, Any]:
    """Turn ``{"a": {"b": [{"c": 1}]}}`` into ``{"a.b.0.c": 1}``, with keys as for ``--set``."""
    if isinstance(tree, list) and any(isinstance(item, Mapping) for item in tree):
        tree = dict(enumerate(tree))
    if not isinstance(tree, Mapping) or not tree:
        return {prefix: tree}
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= _flatten(value, f"{prefix}.{key}" if prefix else str(key))
    return flat
