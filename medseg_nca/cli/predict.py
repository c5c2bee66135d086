"""``medseg-nca predict``: predict files with a trained model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from medseg_nca.cli.console import announce
from medseg_nca.cli.options import (
    POSITIVE,
    SEED,
    check_workers,
    device_option,
    engine_option,
    fresh_option,
    json_option,
    keeping_cases,
    model_option,
    one_worker_option,
    out_option,
    print_json,
    scheduler_option,
    set_option,
    tracking_option,
)

SHARE = click.FloatRange(0, 1, min_open=True, max_open=True)
MISS_RATE = click.FloatRange(0, 0.5, min_open=True, max_open=True)


@click.command()
@model_option
@out_option()
@click.argument("inputs", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--format", "formats", multiple=True, metavar="NAME[,NAME...]",
    help="Format of the label map: nifti, nrrd, mha, png, tiff, dicom-seg, rtstruct, sr, sc, or a "
    "format of another package; several with commas. The input's own if not given, dicom-seg for "
    "DICOM.",
)  # fmt: skip
@click.option(
    "--seg-type", type=click.Choice(["binary", "fractional", "labelmap"]),
    help="Type of a DICOM SEG; fractional stores probabilities, which are also written as "
    "--probabilities writes them.  [default: binary]",
)  # fmt: skip
@click.option(
    "--select", metavar="CONDITIONS",
    help="Which DICOM series, for example 'Modality=MR,SeriesDescription~T1'.",
)  # fmt: skip
@click.option("--probabilities", is_flag=True, help="Also write the probability of each label.")
@click.option(
    "--uncertainty", type=click.IntRange(min=2), metavar="N",
    help="Also write the spread of the foreground over N stochastic passes.",
)  # fmt: skip
@click.option("--flips", help="Average over flipped images along these axes, for example 0 or 0,1.")
@click.option(
    "--largest", metavar="LABEL[,LABEL...]",
    help="Labels of which only the largest part is kept; merged for all labels as one, none to "
    "keep all parts.  [default: as the validation of the training decided]",
)  # fmt: skip
@click.option(
    "--fire", type=click.Choice(["sample", "mean"]), help="Replace the model's fire mode."
)
@click.option(
    "--precision", type=click.Choice(["float32", "bfloat16"]),
    help="Type of the state and the weights; bfloat16 needs less memory.",
)  # fmt: skip
@click.option(
    "--memory-gb",
    type=POSITIVE,
    help="Memory of the whole prediction, in 10^9 bytes; an image that needs more is refused.",
)
@click.option("--seed", type=SEED, help="Seed of the fire mask.")
@click.option(
    "--keep-spacing", is_flag=True,
    help="Keep the spacing of an image, even if it is unlike that of the training.",
)  # fmt: skip
@click.option(
    "--unlike", type=click.Choice(["warn", "refuse"]),
    help="What to do with an image that is unlike those of the training (much coarser voxels, "
    "another size, modality or contrast).  [default: the model's setting, usually warn]",
)  # fmt: skip
@click.option(
    "--acceptable", type=SHARE, metavar="DICE",
    help="Dice below which a mask counts as bad: what the verdict (accept, review, reject) stands "
    "on.  [default: the model's setting, usually 0.8]",
)  # fmt: skip
@click.option(
    "--miss-rate", type=MISS_RATE, metavar="SHARE",
    help="Share of bad masks that may be accepted, and of good ones that may be rejected; a "
    "smaller one sends more to review.  [default: the model's setting, usually 0.05]",
)  # fmt: skip
@click.option(
    "--no-estimate",
    is_flag=True,
    help="Do not estimate how good the masks are; it takes up to twice the time of a plain answer.",
)
@set_option
@one_worker_option
@scheduler_option
@fresh_option
@device_option
@engine_option
@tracking_option
@json_option
def predict(
    model: str,
    out: Path,
    inputs: tuple[Path, ...],
    formats: tuple[str, ...],
    overrides: tuple[str, ...],
    workers: int | None,
    scheduler: str | None,
    fresh: bool,
    device: str | None,
    engine: str,
    tracking_uri: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Predict INPUTS with a model of any task.

    A segmentation takes files or folders (NIfTI, NRRD, MHA, PNG, TIFF, DICOM), and most options
    belong to it. The documentation of the other tasks says what they take and write; --set changes
    their options.

    Each label map has the exact grid and header of its input; a DICOM series gives a DICOM SEG. The
    model is loaded once for all inputs.

    An image whose spacing is unlike that of the training is resampled to it, and the result back.
    Other differences from the images of the training are reported, and kept in predictions.json.
    Each mask comes with an estimate of its Dice, and a verdict where the model can give one.

    A segmentation or a regression keeps finished images: after an interruption the same command
    goes on, and predicts only images that are missing or have changed. An image that fails does not
    stop the others; the exit code is then 3.
    """
    check_workers(workers, scheduler)
    announce(f"Predicting with {model}; the results go to {out}.")
    from medseg_nca.cli.progress import ProgressBars
    from medseg_nca.config.training import TrackingSettings
    from medseg_nca.pipelines import predict as pipeline
    from medseg_nca.tasks import TASKS, Task
    from medseg_nca.tasks.base import PredictRequest
    from medseg_nca.tracking.resolve import load_model

    tracking = TrackingSettings(uri=tracking_uri)
    loaded = load_model(model, device=device or "auto", tracking=tracking, engine=engine)
    options["flips"] = _axes(options["flips"], loaded.spec.model.dims)
    options["largest"] = _labels(options["largest"])
    # A flag that is not set, and an option that is not given, leave it to the model.
    given = {
        key: value for key, value in options.items() if value is not None and value is not False
    }
    request = PredictRequest(
        loaded, inputs, out, _names(formats), overrides, given, workers or 1, scheduler, fresh
    )
    task: Task = TASKS.get(loaded.spec.task)
    with keeping_cases(task.keeps_cases), ProgressBars() as bars:
        results = pipeline.run(request, bars.job)
    if as_json:
        print_json([result.to_dict() for result in results])
        return
    for result in results:
        click.echo(result.line)


def _names(texts: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names in texts such as "nifti,sr" and "dicom-seg", each once."""
    names = (name.strip() for text in texts for name in text.split(","))
    return tuple(dict.fromkeys(name for name in names if name))


def _labels(text: str | None) -> tuple[str, ...] | None:
    """Return the labels in ``--largest``; "none" stands for no label."""
    if text is None:
        return None
    return () if text.strip() == "none" else _names((text,))


def _axes(text: str | None, dims: int) -> tuple[int, ...] | None:
    if text is None:
        return None
    try:
        axes = tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError:
        axes = (-1,)
    if any(not 0 <= axis < dims for axis in axes) or len(set(axes)) != len(axes):
        raise click.BadParameter(
            f"{text!r}: axes are 0 to {dims - 1}, each once, with commas.", param_hint="--flips"
        )
    return axes
