"""``medseg-nca animate``: films of an automaton at work."""

from __future__ import annotations

from pathlib import Path

import click

from medseg_nca.cli.console import announce
from medseg_nca.cli.options import (
    SEED,
    FiniteRange,
    device_option,
    engine_option,
    json_option,
    model_option,
    out_option,
    print_json,
    tracking_option,
)


class LevelNumber(click.ParamType):  # type: ignore[type-arg]
    """The number of a level from 1, or "all"."""

    name = "level"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | None:
        """Return the number, None for all levels."""
        text = str(value)
        if text == "all":
            return None
        if not text.isdecimal() or not int(text):
            self.fail(f"{text!r}: is no number of a level from 1, nor 'all'.", param, ctx)
        return int(text)


@click.command()
@model_option
@out_option("Folder for the films.")
@click.argument("inputs", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--format", "format_", type=click.Choice(["gif", "mp4"]), default="gif", show_default=True,
    help="MP4 needs the program ffmpeg.",
)  # fmt: skip
@click.option(
    "--channels", default="labels", show_default=True, metavar="0,3,hidden|all|labels",
    help="What is shown beside the image: labels is the answer (label map, votes, values, "
    "picture), numbers are channels of the state; several with commas.",
)  # fmt: skip
@click.option("--axis", type=click.IntRange(0, 2), help="Axis across which a volume is cut.")
@click.option(
    "--slice", "slice_", type=click.IntRange(min=0),
    help="Slice of a volume, counted on the image as the model sees it.  [default: the one with "
    "most of the largest label at the end]",
)  # fmt: skip
@click.option(
    "--overlay/--no-overlay", default=True, show_default=True,
    help="Show the answer over the image, or on a dark ground.",
)  # fmt: skip
@click.option(
    "--fps", type=FiniteRange(1, 50), default=12.0, show_default=True, help="Frames a second."
)
@click.option("--seed", type=SEED, default=0, show_default=True, help="Seed of the fire masks.")
@click.option(
    "--steps", type=FiniteRange(0.01, 100), default=1.0, show_default=True, metavar="FACTOR",
    help="How many times its trained steps the automaton takes.",
)  # fmt: skip
@click.option(
    "--level", type=LevelNumber(), default="all", show_default=True, metavar="N|all",
    help="Which level is shown, from 1, the coarsest.",
)  # fmt: skip
@device_option
@engine_option
@tracking_option
@json_option
def animate(
    model: str,
    out: Path,
    inputs: tuple[Path, ...],
    format_: str,
    channels: str,
    axis: int | None,
    slice_: int | None,
    overlay: bool,
    fps: float,
    seed: int,
    steps: float,
    level: int | None,
    device: str | None,
    engine: str,
    tracking_uri: str | None,
    as_json: bool,
) -> None:
    """Film an automaton at work on INPUTS: level by level, step by step.

    The image stands beside the answer of the cells, or chosen channels. A model that grows pictures
    needs no input. An image of more than two million voxels is made smaller, and panels have at
    most 320 pixels a side; at most 240 states are shown, evenly spread.
    """
    announce(f"Filming {model}; the films go to {out}.")
    from medseg_nca.cli.progress import ProgressBars
    from medseg_nca.config.training import TrackingSettings
    from medseg_nca.pipelines import animate as pipeline
    from medseg_nca.tracking.resolve import load_model

    tracking = TrackingSettings(uri=tracking_uri)
    loaded = load_model(model, device=device or "auto", tracking=tracking, engine=engine)
    words = tuple(word.strip() for word in channels.split(",") if word.strip())
    request = pipeline.AnimateRequest(
        loaded, inputs, out, format_, words, axis, slice_, overlay, fps, seed, steps, level
    )
    with ProgressBars() as bars:
        films = pipeline.run(request, bars.job)
    if as_json:
        print_json([film.to_dict() for film in films])
        return
    for film in films:
        width, height = film.size
        click.echo(f"{film.path}  {film.frames} frames of {width} x {height} pixels")
