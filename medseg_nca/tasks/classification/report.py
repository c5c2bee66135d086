"""Draw the figures and write ``report.html`` of an evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medseg_nca.datasets.classes.base import ClassImage
from medseg_nca.inference.task_model import TaskModel
from medseg_nca.tasks.classification.classify import Classifier
from medseg_nca.tasks.classification.pictures import draw_votes
from medseg_nca.tasks.classification.words import (
    COLUMNS,
    WORDS,
    class_rows,
    number,
    with_interval,
)
from medseg_nca.viz.classes import plot_confusion, plot_gallery, plot_reliability
from medseg_nca.viz.report import Block, Items, Picture, Section, Table, Text, write_report

Tree = dict[str, Any]
MOST_MISTAKES = 18


def draw_figures(
    model: TaskModel, tree: Tree, images: Sequence[ClassImage], folder: Path, seed: int
) -> dict[str, Path]:
    """Draw confusion, reliability, the surest mistakes, and the votes on the least sure answer.

    Args:
        model: the model that was evaluated.
        tree: the content of ``metrics.json``.
        images: the images, in the order of the tree's cases.
        folder: folder of the pictures.
        seed: seed of the fire mask.

    Raises:
        OutputError: if a picture cannot be written.
    """
    figures = {
        "confusion": plot_confusion(
            tree["confusion"], list(tree["classes"]), folder / "confusion.png"
        ),
        "reliability": plot_reliability(
            tree["reliability"], tree["ece"], folder / "reliability.png"
        ),
    }
    known = {image.id: image for image in images}
    wrong = sorted(
        (case for case in tree["cases"] if not case["correct"]),
        key=lambda case: (-case["probability"], case["id"]),
    )[:MOST_MISTAKES]
    if wrong:
        figures["mistakes"] = plot_gallery(
            [known[case["id"]].read() for case in wrong],
            [f"{case['truth']}, said {case['predicted']}\n{case['probability']:.2f}"
             for case in wrong],
            folder / "mistakes.png",
        )  # fmt: skip
    else:
        (folder / "mistakes.png").unlink(missing_ok=True)  # a file of an earlier evaluation
    # The right answer that is least sure shows best how the cells come to agree.
    right = [case for case in tree["cases"] if case["correct"]]
    shown = min(right, key=lambda case: case["probability"], default=None) or wrong[0]
    image = Classifier.of(model).prepare(known[shown["id"]].read(), shown["id"])
    title = f"{shown['id']}: {shown['truth']}, said {shown['predicted']}"
    figures["votes"] = draw_votes(model, image, folder / "votes.gif", title, seed)
    return figures


def write_class_report(tree: Tree, figures: dict[str, Path], model: TaskModel, path: Path) -> Path:
    """Write the report of an evaluation.

    Raises:
        OutputError: if the file cannot be written.
    """
    spec, facts = model.spec, Classifier.of(model).facts
    interval = f"[{100 * tree['confidence']:g} % interval over the images]"
    summary: list[Block] = [
        Table(
            ("measure", f"value {interval}"),
            [(word, with_interval(tree, name)) for name, word in WORDS.items()],
        ),
        Text(tree["split"]["reason"]),
    ]
    if tree["notes"] or tree["failed"]:
        failed = [f"{entry['id']}: {entry['error']}" for entry in tree["failed"]]
        summary.append(Items([*tree["notes"], *failed]))
    sections = [
        Section("Results", summary),
        Section("Classes", [
            Table(("class", *COLUMNS), class_rows(tree)),
            Picture(figures["confusion"], "Rows are the truth, columns what was predicted."),
        ]),
        Section("Calibration", [
            Picture(figures["reliability"], "Bars on the dashed line: probabilities are true. "
                    f"The temperature that the validation found is {facts.temperature:g}."),
        ]),
        Section("Mistakes", [
            Picture(figures["mistakes"], "The wrong answers that were given with the highest "
                    "probability; the number is that probability.")
            if "mistakes" in figures else Text("There is none."),
        ]),
        Section("The automaton at work", [
            Picture(figures["votes"], "Which class each cell is for, step by step, and what comes "
                    "out: the least sure of the right answers."),
        ]),
    ]  # fmt: skip
    readout = Classifier.of(model).options.readout
    steps = Classifier.of(model).module.usual_steps
    return write_report(
        path,
        f"{spec.name}: classification",
        sections,
        subtitle=f"{tree['split']['name']} of {tree['data']['name']}, "
        f"{tree['split']['cases']} images",
        highlights={word: number(tree[name]) for name, word in WORDS.items() if name != "brier"},
        footer=f"{model.parameters} parameters, {steps} steps, readout {readout}, "
        f"weights {spec.weights_sha256[:12]}, {tree['created']}",
    )
