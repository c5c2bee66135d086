"""The tables of a study of estimates, as the terminal and the report show them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from medseg_nca.inference.task_results import ResultTable
from medseg_nca.tasks.segmentation.trust_summary import GROUPS, SCORES
from medseg_nca.trust.estimate import VERDICTS

Tree = dict[str, Any]
NUMBERS = {
    "spearman": "Spearman", "pearson": "Pearson", "mae": "MAE", "coverage": "coverage",
    "aurc": "AURC", "e_aurc": "E-AURC", "naurc": "nAURC",
}  # fmt: skip
_SIDES = ("clean", "corrupted")


def score_table(tree: Tree) -> ResultTable:
    """Return the main table: how well each score tells good masks from bad ones."""
    rows = [
        (score.title, group, *(shown_number(found[key]) for key in (*NUMBERS, "auroc_bad")),
         str(found["n"]))
        for group in GROUPS
        for score, found in (
            (SCORES[name], found) for name, found in tree["scores"][group].items()
        )
    ]  # fmt: skip
    columns = (
        "score", "images", *NUMBERS.values(), f"AUROC Dice<{tree['acceptable']:g}", "masks",
    )  # fmt: skip
    return ResultTable("How well each score knows the Dice", columns, tuple(rows), _told(tree))


def fault_table(tree: Tree) -> ResultTable:
    """Return the table with a row for each fault."""
    keys = ("spearman", "mae", "mean_dice", "mean_predicted")
    rows = [
        (name, str(found["n"]), *(shown_number(found[key]) for key in keys),
         *(str(found["verdicts"][verdict]) for verdict in _used(tree)), str(found["refused"]))
        for name, found in tree["faults"].items()
    ]  # fmt: skip
    columns = (
        "fault", "masks", "Spearman", "MAE", "mean true Dice", "mean predicted Dice", *_used(tree),
        "refused images",
    )  # fmt: skip
    return ResultTable("The model's estimate under each fault", columns, tuple(rows))


def verdict_table(tree: Tree) -> ResultTable:
    """Return the table of verdicts, with shares of all masks of the same images."""
    found: Mapping[str, Mapping[str, Mapping[str, int]]] = tree["verdicts"]
    totals = {side: sum(sum(c.values()) for c in found[side].values()) for side in GROUPS}
    rows = [
        (
            verdict,
            *(
                _with_share(found[side][verdict][kind], totals[side])
                for side in GROUPS
                for kind in ("good", "bad")
            ),
        )
        for verdict in _used(tree)
    ]
    columns = ("verdict", *(f"{side}, {kind}" for side in GROUPS for kind in ("good", "bad")))
    title = f"Verdicts on masks; bad is a Dice below {tree['acceptable']:g}"
    return ResultTable(title, columns, tuple(rows), sentence_on_verdicts(tree))


def sentence_on_verdicts(tree: Tree) -> str:
    """Return how many bad masks were accepted, and how many good ones rejected."""
    if not tree["estimates"]:
        return ""
    counts, whole = tree["verdicts"]["all"], tree["image_verdicts"]["all"]
    bad, good = (sum(c[kind] for c in counts.values()) for kind in ("bad", "good"))
    return (
        f"Bad masks accepted: {_of(counts['accept']['bad'], bad)}; "
        f"good masks rejected: {_of(counts['reject']['good'], good)}. "
        f"By the verdict on the whole image: {_of(whole['accept']['bad'], bad)} and "
        f"{_of(whole['reject']['good'], good)}."
    )


def shown_number(value: float | None) -> str:
    """Return a number with three decimals; a dash for None."""
    return "–" if value is None else f"{value:.3f}".replace("-", "−")


def _told(tree: Tree) -> str:
    images = tree["images"]
    counts = (
        f"Cases: {len(tree['cases'])}; images with masks: {images['with_masks']}; images refused: "
        f"{images['refused']}."
    )
    return " ".join([counts, *tree["notes"]])


def _used(tree: Tree) -> tuple[str, ...]:
    """Return the verdicts; "unknown" is among them only if there is one."""
    there = any(tree["verdicts"]["all"]["unknown"].values())
    return VERDICTS if there else VERDICTS[:-1]


def _with_share(count: int, total: int) -> str:
    return f"{count} ({100 * count / total:.1f} %)" if total else "0"


def _of(count: int, total: int) -> str:
    return f"{count} of {total}" + (f" ({100 * count / total:.1f} %)" if total else "")
