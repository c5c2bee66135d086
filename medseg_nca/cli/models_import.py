"""``medseg-nca models import``: checkpoints of published code."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from medseg_nca.cli.console import announce
from medseg_nca.cli.next_step import say_next
from medseg_nca.cli.options import json_option, out_option, print_json

if TYPE_CHECKING:
    from medseg_nca.pipelines.import_model import ImportedModel

T = TypeVar("T")


class _List(click.ParamType):  # type: ignore[type-arg]
    """Values with commas between them."""

    def __init__(self, name: str, parse: Callable[[str], Any]) -> None:
        self.name = name
        self.parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the values as a tuple; fail if one cannot be read or is empty."""
        if isinstance(value, tuple):
            return value
        try:
            return tuple(self.parse(part.strip()) for part in str(value).split(","))
        except ValueError:
            self.fail(f"{value!r}: write it as {self.name}.", param, ctx)


def _word(text: str) -> str:
    if not text:
        raise ValueError("a name is empty")
    return text


def _whole(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise ValueError("not a whole number above 0")
    return int(text)


def _scale(text: str) -> tuple[int, ...]:
    return tuple(_whole(part) for part in text.split("x"))


def _length(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise ValueError("not a length")
    return value


class _Spacing(_List):
    """Lengths, or "own", which is no length at all."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the lengths in mm; () for "own"."""
        return () if value == "own" else super().convert(value, param, ctx)


@click.command("import")
@click.option(
    "--from",
    "family",
    required=True,
    metavar="FAMILY",
    help="Who wrote it: med-nca, m3d-nca, octree-nca, ncalab, or one of a package.",
)
@click.argument(
    "files", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path)
)
@out_option("Folder of the model, which must not be there yet.")
@click.option(
    "--settings",
    type=click.Path(path_type=Path),
    help="Configuration of the published code (config.dt, config.json).",
)
@click.option("--dims", type=click.IntRange(2, 3), help="Number of axes, as a check.")
@click.option(
    "--channels",
    type=_List("MR or T1,T2", _word),
    metavar="NAMES",
    help="Names of the image channels.",
)
@click.option(
    "--labels",
    type=_List("NAME or NAME,NAME", _word),
    metavar="NAMES",
    help="Names of the labels, one for each logit.",
)
@click.option(
    "--axes", metavar="xyz|yx", help="Which of our axes each axis of the published array is."
)
@click.option(
    "--scales",
    type=_List("4,1 or 16x16x4,8x8x4,1", _scale),
    metavar="N,N",
    help="Size of a cell of each level in voxels, coarse to fine.",
)
@click.option(
    "--steps",
    type=_List("20,40", _whole),
    metavar="N,N",
    help="Steps of each level, coarse to fine.",
)
@click.option(
    "--fire-rate",
    type=click.FloatRange(0, 1),
    metavar="P",
    help="As the published configuration has it.",
)
@click.option("--norm", metavar="batch|running|none", help="What normalises the hidden values.")
@click.option("--padding", metavar="reflect|circular|zeros", help="Of NCALab's learned filters.")
@click.option(
    "--filters",
    type=click.Choice(["learned", "sobel"]),
    help="What a cell of NCALab perceives with.",
)
@click.option(
    "--size",
    type=_List("64,64,52", _whole),
    metavar="X,Y[,Z]",
    help="Size of the images in voxels.",
)
@click.option(
    "--spacing",
    type=_Spacing("1,1,1 or own", _length),
    metavar="X,Y[,Z]|own",
    help="Of the images as the model sees them, in mm.",
)
@click.option(
    "--normalise", type=click.Choice(["percentile", "zscore", "none"]), help="Of the intensities."
)
@click.option("--name", help="Name of the model; the family's if not given.")
@json_option
def import_model(
    family: str, files: tuple[Path, ...], out: Path, settings: Path | None, name: str | None,
    as_json: bool, **answers: Any,
) -> None:  # fmt: skip
    """Make a model of this package from a checkpoint of published code.

    FILE is a state dict, of torch.save or safetensors; if each level has a file, give them coarse
    to fine. What the files do not say is asked for. The result predicts what the published code
    does; what cannot be computed exactly is refused. Nothing in a file is executed.
    """
    announce(f"Importing {len(files)} file{'s' * (len(files) > 1)} of {family} to {out}.")
    from medseg_nca.peers.answers import PeerAnswers
    from medseg_nca.pipelines import import_model as pipeline

    request = pipeline.PeerImport(family, files, out, PeerAnswers(**answers), settings, name)
    result = pipeline.run(request)
    if as_json:
        print_json(result.to_dict())
        return
    _show(result)
    say_next("predict", "--model", out, "IMAGE", "--out", "predictions")


def _show(result: ImportedModel) -> None:
    from rich.markup import escape
    from rich.table import Table

    from medseg_nca.cli.console import print_table

    table = Table(title=escape(f"{result.spec.name}, from {result.title}"), title_justify="left",
                  show_header=False)  # fmt: skip
    table.add_column(overflow="fold")
    table.add_column(overflow="fold")
    for key, value in result.understood:
        table.add_row(escape(key), escape(value))
    for text in result.assumed:
        table.add_row("assumed", escape(text))
    table.add_row("parameters", f"{result.parameters:,}")
    table.add_row("tried on a made-up image", escape(result.tried))
    print_table(table)
