"""Draw the figures and write the report of a study of estimates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medseg_nca.inference.task_results import ResultTable
from medseg_nca.metrics.trust import risk_coverage
from medseg_nca.tasks.segmentation.trust_cases import MaskRow
from medseg_nca.tasks.segmentation.trust_summary import SCORES, curve_of, in_group
from medseg_nca.tasks.segmentation.trust_tables import (
    fault_table,
    score_table,
    sentence_on_verdicts,
    shown_number,
    verdict_table,
)
from medseg_nca.viz.report import (
    Block,
    Items,
    Picture,
    Section,
    Table,
    Text,
    write_report,
)
from medseg_nca.viz.trust import Estimated, plot_estimates, plot_risk_coverage

Tree = dict[str, Any]

RULES = (
    "Every case is predicted as it is, and under each artificial fault at each of its strengths. "
    "A mask is one label of one image; a label that neither truth nor prediction has is left out.",
    "Higher scores are taken to mean better masks; NQM and entropy are turned round for that.",
    "NQM of M3D-NCA (Kalkhof and Mukhopadhyay 2023): the standard deviation of the label's "
    "probability over stochastic passes, summed over all voxels, divided by the voxels of the "
    "mask.",
    "Pairwise Dice: the mean Dice between the masks of any two stochastic passes.",
    "Entropy: that of the mean probabilities, averaged over the voxels of the mask.",
    "An empty mask has no baseline; it counts as the worst of all masks.",
    "Spearman and Pearson: correlation of the score with the true Dice. MAE: mean absolute "
    "difference from it. Coverage: share of the true Dice within the interval.",
    "AURC (Geifman and El-Yaniv 2017): the masks of the lowest scores are left out one by one; the "
    "mean of 1 - Dice over those that are kept, averaged over all shares that are kept. E-AURC: "
    "what it has above that of the best order. nAURC: E-AURC against that of a random order; 0 is "
    "the best order, 1 is chance. Masks of equal score are in random order.",
    "AUROC: how often a bad mask has a lower score than a good one.",
)


def draw_study(tree: Tree, rows: Sequence[MaskRow], folder: Path) -> dict[Path, str]:
    """Draw the curves of all scores and the estimates; return the files with their captions."""
    dice = [row.dice for row in rows]
    best = risk_coverage(dice, dice)
    curves = {
        score.title: (curve.coverage.tolist(), curve.risk.tolist())
        for score in SCORES.values()
        if (curve := curve_of(rows, score)) is not None
    }
    path = plot_risk_coverage(
        curves, folder / "trust_risk.png", best=(best.coverage.tolist(), best.risk.tolist())
    )
    figures = {
        path: "Risk and coverage, all images: a line that falls steeply to the left belongs to a "
        "score that leaves out the bad masks first."
    }
    groups = {name: _estimated(in_group(rows, name)) for name in ("clean", "corrupted")}
    groups = {name: masks for name, masks in groups.items() if masks.true}
    if groups:
        path = plot_estimates(groups, folder / "trust_estimates.png")
        confidence = tree["confidence"]
        width = "" if confidence is None else f" of {100 * confidence:g} %"
        figures[path] = (
            f"Each point is a mask, its line the interval{width}; it is right where it crosses "
            "the dashed line."
        )
    return figures


def write_trust_report(tree: Tree, figures: Mapping[Path, str], path: Path) -> Path:
    """Write ``trust.html`` from the tree of ``trust.json`` and the figures.

    Raises:
        OutputError: if it cannot be written.
    """
    pictures = [Picture(file, caption) for file, caption in figures.items()]
    main = score_table(tree)
    verdict = sentence_on_verdicts(tree)
    blocks: list[Block] = [*_warnings(tree), _table(main), *pictures]
    verdicts: list[Block] = [Text(verdict), _table(verdict_table(tree))]
    sections = [
        Section("Scores", blocks),
        Section("Verdicts", verdicts) if tree["estimates"] else None,
        Section("Faults", [_table(fault_table(tree)), *_about(tree)]),
        Section("How it was measured", [Items(RULES)]),
    ]
    return write_report(
        path,
        f"Trust in {tree['model']['name']}",
        [section for section in sections if section is not None],
        subtitle=f"{len(tree['cases'])} cases of {tree['data']['name']}, clean and with artificial "
        "faults",
        highlights=_highlights(tree),
        footer=f"medseg-nca {tree['versions']['medseg-nca']}, {tree['created']}. "
        "Research use only: not a medical device.",
    )


def _estimated(rows: Sequence[MaskRow]) -> Estimated:
    known = [
        (row.dice, row.predicted, row.low, row.high)
        for row in rows
        if row.predicted is not None and row.low is not None and row.high is not None
    ]
    columns: list[list[float]] = [[values[k] for values in known] for k in range(4)]
    return Estimated(*columns)


def _warnings(tree: Tree) -> list[Block]:
    texts = [*tree["notes"], *(f"{f['id']} failed: {f['error']}" for f in tree["failed"])]
    return [Text(text, "note") for text in texts]


def _about(tree: Tree) -> list[Block]:
    items = [f"{name}: {about}" for name, about in tree["corruptions"].items()]
    rows = [
        [image["case"], image["corruption"], str(image["strength"]), image["reason"]]
        for image in tree["refused"]
    ]
    blocks: list[Block] = [Items(items)]
    if rows:
        columns = ["Case", "Fault", "Strength", "Reason"]
        blocks.append(Table(columns, rows, f"Refused images: {len(rows)}", closed=True))
    return blocks


def _table(table: ResultTable) -> Table:
    return Table(table.columns, table.rows, table.title)


def _highlights(tree: Tree) -> dict[str, str]:
    found = tree["scores"]["all"]
    shown = found["estimate" if tree["estimates"] else "entropy"]
    word = "of the model's estimate" if tree["estimates"] else "of the entropy"
    tiles = {
        f"Spearman {word}": shown_number(shown["spearman"]),
        f"nAURC {word}": shown_number(shown["naurc"]),
    }
    if tree["estimates"]:
        counts = tree["verdicts"]["all"]
        bad = sum(verdict["bad"] for verdict in counts.values())
        tiles["bad masks accepted"] = f"{counts['accept']['bad']} of {bad}"
    return {**tiles, "masks": str(found["entropy"]["n"]), "cases": str(len(tree["cases"]))}
