"""``medseg-nca models``: describe, register, verify and export models."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from medseg_nca.cli.console import announce
from medseg_nca.cli.ensemble import ensemble
from medseg_nca.cli.models_import import import_model
from medseg_nca.cli.next_step import say_next
from medseg_nca.cli.options import (
    engine_option,
    json_option,
    print_json,
    set_option,
    tracking_option,
)
from medseg_nca.cli.parts import parts

if TYPE_CHECKING:
    from medseg_nca.tracking.versions import Version

REFERENCE = "RUN|URI|zoo:NAME"
NO_VALUE = "–"


@click.group()
def models() -> None:
    """Describe, import, join, register, verify and export models.

    The registry is an MLflow store: that of --tracking-uri, else that of MLFLOW_TRACKING_URI, else
    mlflow.db in the current folder.
    """


models.add_command(ensemble)
models.add_command(parts)
models.add_command(import_model)


@models.command()
@click.argument("source", metavar="RUN")
@click.option("--name", required=True, help="Name of the registered model; made when it is new.")
@click.option(
    "--evaluation",
    type=click.Path(path_type=Path, exists=True),
    help="Folder of an evaluation; that of RUN's last evaluation if not given.",
)
@click.option("--description", default="", help="Free text.")
@click.option(
    "--force", is_flag=True, help="Register even a model whose training has learned nothing."
)
@tracking_option
@json_option
def register(
    source: str,
    name: str,
    evaluation: Path | None,
    description: str,
    force: bool,
    tracking_uri: str | None,
    as_json: bool,
) -> None:
    """Store the model of RUN as the next version of a registered model.

    RUN is a run folder, or a folder with weights.safetensors and model.json. If no store is named,
    the store that the run was tracked in is used.
    """
    announce(f"Registering {source} as {name}.")
    from medseg_nca.config.training import TrackingSettings
    from medseg_nca.pipelines import register as pipeline
    from medseg_nca.pipelines.run_folder import training_of
    from medseg_nca.tracking.store import shown, store_uri

    version = pipeline.run(
        source, name,
        tracking=TrackingSettings(uri=tracking_uri), evaluation=evaluation, description=description,
        force=force,
    )  # fmt: skip
    if as_json:
        print_json(version.to_dict())
        return
    click.echo(f"Registered {version.uri} in {version.store}.")
    if version.evaluated:
        store = () if version.store == shown(store_uri()) else ("--tracking-uri", version.store)
        words = (version.name, version.version, "--alias", "champion", *store)
        say_next("models", "promote", *words)
        return
    click.echo("It has no evaluation yet; it needs one before it can be promoted.")
    training = training_of(Path(source))
    if "data" in training and "held_out" in training:
        side = () if training["held_out"] == "test" else ("--split", training["held_out"])
        say_next("evaluate", "--model", source, "--data", training["data"], *side)


@models.command("list")
@click.argument("name", required=False)
@tracking_option
@json_option
def list_models(name: str | None, tracking_uri: str | None, as_json: bool) -> None:
    """List the registered models, or all versions of the model NAME."""
    announce("Reading the registry.")
    from medseg_nca.config.training import TrackingSettings
    from medseg_nca.tracking import versions
    from medseg_nca.tracking.store import shown, store_uri

    tracking = TrackingSettings(uri=tracking_uri)
    found = versions.list_versions(name, tracking) if name else versions.list_models(tracking)
    if as_json:
        print_json([version.to_dict() for version in found])
        return
    if not found:
        click.echo(f"There are no registered models in {shown(store_uri(tracking_uri))}.")
        return
    title = f"versions of {name}" if name else "registered models (newest version)"
    columns = ("name", "version", "aliases", "score", "of", "status", "created", "weights")
    _table(title, columns, [_row(version) for version in found], right=("version", "score"))


@models.command()
@click.argument("name")
@click.argument("version", required=False)
@tracking_option
@json_option
def show(name: str, version: str | None, tracking_uri: str | None, as_json: bool) -> None:
    """Show a version of the model NAME, given by number or alias; the newest if not given.

    NAME may also be models:/NAME/VERSION or models:/NAME@ALIAS.
    """
    announce(f"Looking {name} up in the registry.")
    from medseg_nca.config.training import TrackingSettings
    from medseg_nca.tracking import versions

    found = versions.show(name, version, TrackingSettings(uri=tracking_uri))
    if as_json:
        print_json(found.to_dict())
        return
    facts = {key: value for key, value in found.to_dict().items() if key not in HIDDEN}
    facts["aliases"] = ", ".join(found.aliases) or NO_VALUE
    facts |= {key: value for key, value in sorted(found.tags.items()) if key not in facts}
    _table(found.uri, ("", ""), [[key, str(value)] for key, value in facts.items()], header=False)


@models.command()
@click.argument("name")
@click.argument("version")
@click.option("--alias", required=True, help="For example champion or challenger.")
@click.option(
    "--evaluation",
    type=click.Path(path_type=Path, exists=True),
    help="Folder of an evaluation to add to the version first.",
)
@tracking_option
@json_option
def promote(
    name: str,
    version: str,
    alias: str,
    evaluation: Path | None,
    tracking_uri: str | None,
    as_json: bool,
) -> None:
    """Let an alias point to VERSION of the model NAME.

    The version is verified first. A version without an evaluation is refused.
    """
    announce(f"Verifying version {version} of {name}.")
    from medseg_nca.config.training import TrackingSettings
    from medseg_nca.tracking import registry

    tracking = TrackingSettings(uri=tracking_uri)
    found = registry.promote(name, version, alias, tracking=tracking, evaluation=evaluation)
    if as_json:
        print_json(found.to_dict())
    else:
        click.echo(f"models:/{found.name}@{alias} is version {found.version}.")


@models.command()
@click.argument("reference", metavar=REFERENCE)
@click.option("--device", default="cpu", show_default=True, help="auto, cpu or cuda.")
@engine_option
@tracking_option
@json_option
def verify(
    reference: str, device: str, engine: str, tracking_uri: str | None, as_json: bool
) -> None:
    """Check a model: the sha256 of its files, that it loads, and its stored prediction."""
    announce(f"Verifying {reference}.")
    from rich.markup import escape

    from medseg_nca.config.training import TrackingSettings
    from medseg_nca.tracking import verify as checking

    tracking = TrackingSettings(uri=tracking_uri)
    result = checking.verify(reference, device, tracking, engine=engine)
    if as_json:
        print_json(result.to_dict())
    else:
        words = {True: "[green]passed[/]", False: "[red]failed[/]", None: NO_VALUE}
        rows = [[c.name, words[c.passed], escape(c.detail)] for c in result.checks]
        _table(reference, ("check", "result", "detail"), rows, markup=True)
    result.raise_if_failed()


@models.command()
@click.argument("reference", metavar=REFERENCE)
@click.option(
    "--to",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for the files.",
)
@click.option("--force", is_flag=True, help="Replace a model that is already there.")
@tracking_option
@json_option
def export(reference: str, to: Path, force: bool, tracking_uri: str | None, as_json: bool) -> None:
    """Copy a model's two data files to a folder, which can be used as --model on any machine."""
    announce(f"Copying {reference} to {to}.")
    from medseg_nca.config.training import TrackingSettings
    from medseg_nca.tracking.resolve import export_model

    written = export_model(reference, to, TrackingSettings(uri=tracking_uri), force=force)
    if as_json:
        print_json({"model": reference, "files": [str(path) for path in written]})
        return
    for path in written:
        click.echo(str(path))


@models.command()
@click.argument("name", metavar="NAME|FILE|RUN|zoo:NAME")
@click.option("--size", metavar="X,Y[,Z]", help="Image size in voxels that the cost is for.")
@set_option
@json_option
def describe(name: str, size: str | None, overrides: tuple[str, ...], as_json: bool) -> None:
    """Print levels, parameters, receptive field, memory and FLOP of a model.

    NAME is a model or a preset (see `medseg-nca config list`), a settings file, or a trained model.
    """
    announce(f"Describing {name}.")
    from medseg_nca.models.describe import describe as describe_model

    settings, members = _model_settings(name, overrides)
    tree = describe_model(settings, _size(size, settings.dims)).to_dict()
    if members > 1:  # the members run on an image one after the other
        costs = ("parameters", "flop")
        sums = {key: members * tree[key] for key in costs if tree[key] is not None}
        tree = {**tree, **sums, "members": members}
    if as_json:
        print_json(tree)
        return
    facts = {k: v for k, v in tree.items() if k not in ("levels", "cell_options") and v is not None}
    facts |= {f"cell.{name}": text for name, text in tree["cell_options"].items()}
    rows = [[_UNITS.get(key, key.replace("_", " ")), _shown(v)] for key, v in facts.items()]
    _table(name, ("", ""), rows, header=False)
    levels = tree.get("levels")
    if levels:
        columns = tuple(key.replace("_", " ") for key in levels[0])
        cells = [[_shown(value) for value in level.values()] for level in levels]
        _table("levels, coarse to fine", columns, cells, right=columns)


@models.group()
def zoo() -> None:
    """Models that come with the package; they are used as --model zoo:NAME."""


@zoo.command("list")
@json_option
def list_zoo(as_json: bool) -> None:
    """List the models that come with the package."""
    announce("Reading the models in the package.")
    from medseg_nca.inference.bundle import WEIGHTS, read_spec
    from medseg_nca.tracking.resolve import zoo_folder, zoo_names

    found: list[dict[str, Any]] = []
    for name in zoo_names():
        folder = zoo_folder() / name
        spec = read_spec(folder)
        found.append(
            {
                "reference": f"zoo:{name}",
                "model": spec.model.name,
                "labels": list(spec.labels.names),
                "data": spec.training_data,
                "bytes": (folder / WEIGHTS).stat().st_size,
                "folder": str(folder),
            }
        )
    if as_json:
        print_json(found)
        return
    if not found:
        click.echo("No models come with this installation.")
        return
    columns = ("reference", "model", "labels", "data", "bytes")
    rows = [[_shown(entry[column]) for column in columns] for entry in found]
    _table("models in the package", columns, rows, right=("bytes",))


# Fields that ``show`` leaves out, because other rows contain them.
HIDDEN = {"tags", "score", "dice", "dice_of"}
_UNITS = {
    "flop": "FLOP of an inference",
    "inference_mb": "inference memory (MB)",
    "training_mb": "training memory (MB, a sample)",
    "receptive_field": "receptive field (voxels)",
    "size": "for an image of (voxels)",
}


def _model_settings(name: str, overrides: tuple[str, ...]) -> tuple[Any, int]:
    """Return the settings of a model, given by a name, a preset, a file or a trained model.

    The number of its members is returned too; it is 1 if the model is no ensemble.
    """
    from medseg_nca.config.loading import load_settings
    from medseg_nca.config.presets import preset_names

    if name in preset_names("model"):
        return load_settings(None, (f"model={name}", *overrides)).model, 1
    if _is_trained(name):
        from medseg_nca.errors import ConfigError
        from medseg_nca.tracking.resolve import locate
        from medseg_nca.tracking.task_files import read_folder

        if overrides:
            raise ConfigError(f"--set cannot change {name}: it is trained already.")
        found = locate(name)
        try:
            spec = read_folder(found.folder)
        finally:
            found.release()
        return spec.model, max(len(getattr(spec, "members", ())), 1)
    return load_settings(name, overrides).model, 1


def _is_trained(name: str) -> bool:
    return name.startswith(("zoo:", "models:", "runs:")) or Path(name).is_dir()


def _size(text: str | None, dims: int) -> tuple[int, ...] | None:
    if text is None:
        return None
    parts = text.replace("x", ",").split(",")
    numbers = all(part.strip().isdecimal() and int(part) for part in parts)
    if not numbers or len(parts) != dims:
        example = ",".join(["64"] * dims)
        raise click.BadParameter(f"{text!r}: write it as {example}.", param_hint="--size")
    return tuple(int(part) for part in parts)


def _shown(value: Any) -> str:
    if isinstance(value, list | tuple):
        sizes = all(isinstance(item, int) for item in value)
        return ("x" if sizes else ", ").join(map(str, value))
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.4g}" if isinstance(value, float) else str(value)


def _row(version: Version) -> list[str]:
    score = NO_VALUE
    if version.score is not None:
        score = f"{version.score_name} {version.score:.4f}"
    return [
        version.name, version.version, ", ".join(version.aliases) or NO_VALUE, score,
        version.score_of or NO_VALUE, version.status or NO_VALUE,
        version.created.partition("T")[0], version.weights_sha256[:12],
    ]  # fmt: skip


def _table(
    title: str,
    columns: tuple[str, ...],
    rows: list[list[str]],
    *,
    right: tuple[str, ...] = (),
    header: bool = True,
    markup: bool = False,
) -> None:
    from rich.markup import escape
    from rich.table import Table

    from medseg_nca.cli.console import print_table

    table = Table(title=escape(title), title_justify="left", show_header=header)
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(row if markup else map(escape, row)))
    print_table(table)
