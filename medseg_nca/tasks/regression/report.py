"""Write the report of an evaluation and its figures."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from medseg_nca.datasets.pairs import Pair
from medseg_nca.inference.task_model import TaskSpec
from medseg_nca.metrics.regression import METRICS
from medseg_nca.metrics.summary import interval_key
from medseg_nca.tasks.base import Tree
from medseg_nca.tasks.regression.pairs import read_pair
from medseg_nca.tasks.regression.pictures import (
    PairExample,
    axis_label,
    draw_agreement,
    draw_example,
)
from medseg_nca.tasks.regression.predictor import RealPredictor
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

if TYPE_CHECKING:
    from medseg_nca.tasks.regression.measure import Measured

RULES = (
    "Each metric is computed in each case, over the voxels whose truth is known, on the grid of "
    "the source file; the table shows the mean over the cases.",
    "Intervals are percentile bootstrap intervals of that mean over resampled cases: they tell how "
    "far it would move with other cases, not with another training.",
    "Constant: a predictor that says everywhere the mean of the training targets. Its RMSE divided "
    "by the model's says how many times better the model is.",
    "abs rel is the mean of |prediction - truth| / truth; < 1.25 is the share of voxels whose "
    "prediction is within a factor of 1.25 of the truth (Eigen et al. 2014). Both need truths "
    "above 0 everywhere, else they are left out.",
    "R2 is 1 - SS(residual) / SS(total) within a case; bias is the mean of prediction - truth.",
)


@dataclass(frozen=True)
class Figure:
    """The file of a figure, and its caption."""

    path: Path
    caption: str


def write_figures(
    tree: Tree,
    found: Mapping[str, Measured],
    pairs: Mapping[str, Pair],
    predictor: RealPredictor,
    folder: Path,
) -> list[Figure]:
    """Draw agreement, and the best, the median and the worst case, of every target.

    Raises:
        OutputError: if a figure cannot be written.
    """
    facts, figures = predictor.facts, []
    several = len(facts.targets) > 1
    for index, name in enumerate(facts.names):
        end = f"_{index}" if several else ""
        label = axis_label(name, facts.unit)
        truth, predicted = np.concatenate([m.sample[index] for m in found.values()], axis=1)
        path = draw_agreement(truth, predicted, label, folder / f"agreement{end}.png")
        figures.append(
            Figure(path, f"{name}: {len(truth):,} known voxels, as many of each case as there are, "
                   "up to 2,000; the colour is their density, on a logarithmic scale.")
        )  # fmt: skip
        for word, case in ranked(tree, name).items():
            path = folder / f"{word}{end}.png"
            example = _example(pairs[case], word, index, predictor)
            draw_example(example, label, path)
            figures.append(Figure(path, f"{name}: the {word} case, {case}, {example.score}."))
    return figures


def ranked(tree: Tree, target: str) -> dict[str, str]:
    """Return the best, the median and the worst case by RMSE, or fewer if there are fewer."""
    scored = sorted((case["targets"][target]["rmse"], case["id"]) for case in tree["cases"])
    if len(scored) < 3:
        return {word: name for word, (_, name) in zip(("best", "worst"), scored, strict=False)}
    places = {"best": 0, "median": len(scored) // 2, "worst": -1}
    return {word: scored[place][1] for word, place in places.items()}


def _example(pair: Pair, word: str, index: int, predictor: RealPredictor) -> PairExample:
    read = read_pair(pair, predictor.facts.unknown)
    found = predictor.predict(read.image).values.array[index]
    error = float(np.sqrt(np.nanmean((found - read.target[index]) ** 2)))
    score = f"RMSE {error:.3g} {predictor.facts.unit}".rstrip()
    return PairExample(pair.id, word, score, read.image, read.target[index], found)


def write_real_report(tree: Tree, figures: Sequence[Figure], spec: TaskSpec, path: Path) -> Path:
    """Write ``report.html``.

    Raises:
        OutputError: if the file cannot be written.
    """
    sections = [
        Section("Results", [_summary(name, part, tree) for name, part in tree["targets"].items()]),
        Section("Figures", [Picture(figure.path, figure.caption) for figure in figures]),
        Section("Cases", [_cases(tree)]),
        Section("How to read it", [Items(RULES)]),
        Section("Where it comes from", [
            _origin(tree), Preformatted(json.dumps(tree["settings"], indent=2), "Settings"),
        ]),
    ]  # fmt: skip
    notes = [Text(note, "note") for note in tree["notes"][1:]]
    failed = [f"{item['id']}: {item['error']}" for item in tree["failed"]]
    if failed:
        notes.append(Text(f"{len(failed)} cases failed and are not in these results.", "note"))
    if notes or failed:
        blocks: list[Block] = [*notes, *([Items(failed)] if failed else [])]
        sections.insert(1, Section("To be aware of", blocks))
    return write_report(
        path, f"{spec.name}: evaluation", sections,
        subtitle=f"{tree['data']['name']}, {tree['notes'][0]}",
        highlights=_highlights(tree), footer=f"medseg-nca, {tree['created']}",
    )  # fmt: skip


def _highlights(tree: Tree) -> dict[str, str]:
    shown = {}
    several = len(tree["targets"]) > 1
    for name, part in tree["targets"].items():
        end = f", {name}" if several else ""
        shown[f"RMSE{end}"] = f"{_text(part['rmse']['mean'])} {part['unit']}".rstrip()
        shown[f"times better than a constant{end}"] = _text(part["ratio"])
    shown["cases"] = str(len(tree["cases"]))
    return shown


def _summary(name: str, part: Tree, tree: Tree) -> Table:
    key = interval_key(tree["confidence"])
    rows = []
    for metric, about in METRICS.items():
        values, unit = part[metric], f" {part['unit']}".rstrip() if about.unit else ""
        interval = values[key]
        rows.append((
            f"{about.title}{unit}", _text(values["mean"]),
            "-" if interval is None else f"{_text(interval[0])} to {_text(interval[1])}",
            _text(values["median"]), _text(part["constant"][metric]), str(values["n"]),
        ))  # fmt: skip
    columns = ("metric", "mean", f"{100 * tree['confidence']:g}% interval", "median",
               "constant", "cases")  # fmt: skip
    return Table(columns, rows, f"{name}: the constant's RMSE is {_text(part['ratio'])} times the "
                 "model's.")  # fmt: skip


def _cases(tree: Tree) -> Table:
    rows = [
        (case["id"], name, *(_text(values[metric]) for metric in METRICS),
         _text(case["constant"][name]))
        for case in tree["cases"]
        for name, values in case["targets"].items()
    ]  # fmt: skip
    columns = ("case", "target", *(m.title for m in METRICS.values()), "constant RMSE")
    return Table(columns, rows, f"All {len(tree['cases'])} cases", closed=True)


def _origin(tree: Tree) -> Table:
    model, data = tree["model"], tree["data"]
    rows = [
        ("model", f"{model['name']} ({model['architecture']}, {model['parameters']:,} parameters)"),
        ("weights", model["weights_sha256"][:12]),
        ("trained on", f"{model['training_data']} ({model['training_data_hash'][:12]})"),
        ("evaluated on", f"{data['name']} ({data['hash'][:12]}), {tree['split']['name']}"),
        ("device", tree["device"]),
        ("commit", str(tree["git_commit"])),
    ]
    return Table(("what", "which"), rows)


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
