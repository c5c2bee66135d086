"""Draw the figures and write the report of an evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from nibabel.orientations import apply_orientation, io_orientation
from numpy.typing import NDArray

from medseg_nca.cases.quality_notes import counts_in_words
from medseg_nca.config import LabelTable
from medseg_nca.inference.bundle import ModelSpec
from medseg_nca.io.volume import Volume
from medseg_nca.metrics.definitions import MERGED, METRICS
from medseg_nca.metrics.summary import interval_key
from medseg_nca.viz.boxes import plot_boxes
from medseg_nca.viz.overlay import plot_case
from medseg_nca.viz.report import (
    Block,
    Items,
    Picture,
    Preformatted,
    Section,
    Table,
    Text,
    write_report,
)

Tree = dict[str, Any]
BOXES = ("dice", "hd95", "nsd")
PER_CASE = ("dice", "hd95", "assd", "nsd", "volume_difference")
OPEN_ROWS = 30
# What the model says of its own answer, beside the true Dice.
ESTIMATED = ("Predicted Dice", "Verdict")


@dataclass(frozen=True)
class Example:
    """A case that is drawn: best, median or worst.

    Attributes:
        id: id of the case.
        word: "best", "median" or "worst".
        dice: mean Dice over the labels of the case.
        image: the source image.
        truth: true label map ``(*S)`` with source numbers.
        prediction: predicted label map ``(*S)``.
    """

    id: str
    word: str
    dice: float
    image: Volume
    truth: NDArray[Any]
    prediction: NDArray[Any]


def draw(
    tree: Tree, examples: Sequence[Example], folder: Path, labels: LabelTable, truth: LabelTable
) -> dict[Path, str]:
    """Draw box plots and overlays, and return the files with their captions."""
    dims = examples[0].image.dims if examples else 3
    panels = {METRICS[m].heading(dims): _spread(tree, m) for m in BOXES}
    boxes = plot_boxes(panels, folder / "boxes.png")
    files = {boxes: "Every point is a case; boxes span the quartiles, a diamond is the mean."}
    for example in examples:
        path = folder / f"{example.word}.png"
        title = f"{example.id}: {example.word} case, Dice {example.dice:.3f}"
        image, true, found, spacing = _for_display(example)
        plot_case(
            image, true, found, labels, path, title, spacing=spacing, truth_labels=truth,
            anatomical=image.ndim == 4,
        )  # fmt: skip
        files[path] = f"The {example.word} case, {example.id}, mean Dice {example.dice:.3f}."
    return files


def write_evaluation_report(
    tree: Tree, figures: Mapping[Path, str], spec: ModelSpec, path: Path
) -> Path:
    """Write ``report.html`` from the tree of ``metrics.json`` and the figures."""
    dims = spec.plan.dims
    pictures = [Picture(file, caption) for file, caption in figures.items()]
    sections = [
        Section(
            "Results",
            [*_warnings(tree), _results(tree, dims), _medians(tree, dims), *pictures[:1]],
        ),
        Section("Best, median and worst case", pictures[1:]) if pictures[1:] else None,
        Section("Cases", [_cases(tree, dims)]),
        Section("How it was measured", [Items(tree["rules"])]),
        Section("Where it comes from", [_origin(tree), *_settings(tree, spec)]),
    ]
    return write_report(
        path,
        f"Evaluation of {spec.name}",
        [section for section in sections if section is not None],
        subtitle=f"{len(tree['cases'])} cases of {tree['data']['name']}. {tree['split']['reason']}",
        highlights=_highlights(tree, dims),
        footer=f"medseg-nca {tree['versions']['medseg-nca']}, {tree['created']}. "
        "Research use only: not a medical device.",
    )


def in_table() -> list[str]:
    """The metrics that have a column in the tables of labels."""
    return [name for name, metric in METRICS.items() if metric.in_report]


def shown(value: float | None, digits: int = 3) -> str:
    """Return a number as text for a table; a dash for None."""
    return "–" if value is None else f"{value:.{digits}f}".replace("-", "−")


def _digits(metric: str) -> int:
    return 2 if METRICS[metric].unit else 3


def _spread(tree: Tree, metric: str) -> dict[str, list[float | None]]:
    names = list(tree["labels"])
    spread = {n: [case["labels"][n][metric] for case in tree["cases"]] for n in names}
    if len(names) > 1:
        spread[MERGED] = [case[MERGED][metric] for case in tree["cases"]]
    return spread


def _for_display(
    example: Example,
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], tuple[float, ...]]:
    """Return image, truth, prediction and spacing, turned for display.

    The axes of a volume are turned to run right, front, top as nearly as they can.
    """
    volume = example.image
    if volume.dims == 2:
        return volume.array, example.truth, example.prediction, volume.spacing
    turn = io_orientation(volume.affine)

    def turned(array: NDArray[Any]) -> NDArray[Any]:
        return np.asarray(apply_orientation(array, turn))

    image = np.stack([turned(channel) for channel in volume.array[:1]])
    order = np.argsort(turn[:, 0])
    spacing = tuple(volume.spacing[int(axis)] for axis in order)
    return image, turned(example.truth), turned(example.prediction), spacing


def _highlights(tree: Tree, dims: int) -> dict[str, str]:
    key = interval_key(tree["confidence"])
    interval = tree[f"mean_dice_{key}"]
    span = f" ({shown(interval[0])} to {shown(interval[1])})" if interval else ""
    hd95 = [part["hd95"]["mean"] for part in tree["labels"].values()]
    known = [v for v in hd95 if v is not None]
    seconds = tree["seconds"]["median"]
    return {
        f"mean Dice{span}": shown(tree["mean_dice"]),
        f"mean {METRICS['hd95'].heading(dims)}": shown(float(np.mean(known)) if known else None, 2),
        "cases": str(len(tree["cases"])),
        f"seconds per {'volume' if dims == 3 else 'image'}": shown(seconds, 2),
        "parameters": f"{tree['model']['parameters']:,}",
    }


def _warnings(tree: Tree) -> list[Block]:
    texts = [*tree["notes"], *(f"{f['id']} failed: {f['error']}" for f in tree["failed"])]
    return [Text(text, "note") for text in texts]


def _results(tree: Tree, dims: int) -> Table:
    key = interval_key(tree["confidence"])

    def cell(part: Tree, metric: str) -> str:
        digits, entry = _digits(metric), part[metric]
        if entry["mean"] is None:
            return "–"
        interval = entry[key]
        span = f" [{shown(interval[0], digits)}, {shown(interval[1], digits)}]" if interval else ""
        return f"{shown(entry['mean'], digits)}{span}"

    parts = {**tree["labels"], MERGED: tree[MERGED]}
    rows = [
        [name, *(cell(part, m) for m in in_table()), str(part["dice"]["n"])]
        for name, part in parts.items()
    ]
    headings = [_heading(m, dims, tree) for m in in_table()]
    caption = f"Mean over the cases [{100 * tree['confidence']:g} % bootstrap interval]"
    return Table(["Label", *headings, "n"], rows, caption)


def _medians(tree: Tree, dims: int) -> Table:
    parts = {**tree["labels"], MERGED: tree[MERGED]}
    rows = [
        [name, *(shown(part[m]["median"], _digits(m)) for m in in_table())]
        for name, part in parts.items()
    ]
    columns = ["Label", *(_heading(m, dims, tree) for m in in_table())]
    return Table(columns, rows, "Medians over the cases", closed=True)


def _heading(metric: str, dims: int, tree: Tree) -> str:
    if metric == "nsd":
        return f"NSD at {tree['tolerance_mm']:g} mm"
    return METRICS[metric].heading(dims)


def _cases(tree: Tree, dims: int) -> Table:
    rows, estimated = [], _is_estimated(tree)
    for case in sorted(tree["cases"], key=lambda c: (c["mean_dice"] is None, c["mean_dice"])):
        for label, values in case["labels"].items():
            cells = [shown(values[m], _digits(m)) for m in PER_CASE]
            if estimated:
                cells[1:1] = _estimate(case["estimate"], label)
            rows.append([case["id"], label, *cells, shown(case["seconds"], 2)])
    headings = [_heading(m, dims, tree) for m in PER_CASE]
    caption = f"{len(tree['cases'])} cases, the worst first"
    if estimated:
        headings[1:1] = ESTIMATED
        caption += f". Verdicts: {counts_in_words(tree['verdicts'])}"
    columns = ["Case", "Label", *headings, "Seconds"]
    return Table(columns, rows, caption, closed=len(rows) > OPEN_ROWS)


def _is_estimated(tree: Tree) -> bool:
    return any(case["estimate"]["labels"] for case in tree["cases"])


def _estimate(estimate: Tree, label: str) -> list[str]:
    """Predicted Dice with its interval, and the verdict; "unknown" has no number."""
    one = estimate["labels"].get(label)
    if one is None:
        return [shown(None), estimate["verdict"]]
    interval = f"[{shown(one['low'])}, {shown(one['high'])}]"
    return [f"{shown(one['dice'])} {interval}", one["verdict"]]


def _origin(tree: Tree) -> Table:
    model, data = tree["model"], tree["data"]
    rows = [
        ["Model", f"{model['name']} ({model['architecture']})"],
        ["Weights (sha256)", model["weights_sha256"] or "–"],
        ["Trained on", model["training_data"] or "–"],
        ["Hash of the training data", model["training_data_hash"] or "–"],
        ["Evaluated on", data["name"]],
        ["Hash of the evaluated data", data["hash"]],
        ["Device", tree["device"]],
        ["Commit of the code", tree["git_commit"] or "–"],
        ["Versions", ", ".join(f"{k} {v}" for k, v in tree["versions"].items())],
    ]
    return Table(["", ""], rows)


def _settings(tree: Tree, spec: ModelSpec) -> list[Block]:
    parts = {
        "Evaluation and prediction settings": tree["settings"],
        "Labels": spec.labels.model_dump(mode="json"),
        "Model settings": spec.model.model_dump(mode="json"),
        "Preprocessing": spec.plan.model_dump(mode="json"),
    }
    return [
        Preformatted(yaml.safe_dump(part, sort_keys=False, allow_unicode=True), caption)
        for caption, part in parts.items()
    ]
