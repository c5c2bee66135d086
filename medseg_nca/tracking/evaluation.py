"""The evaluation that belongs to a registered version."""

from __future__ import annotations

import json
import logging
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medseg_nca.errors import ModelError
from medseg_nca.io.atomic import write_json

METRICS = "metrics.json"
FILES = (METRICS, "metrics.csv", "report.html")
# Of a run folder: where its evaluations lie.
PLACES = "evaluations.json"
# The most telling side first.
SIDES = ("test", "all", "val", "train")

# What the number in the tags of a version was measured by: see ``score_of``.
EVALUATION, VALIDATION = "evaluation", "validation"
DICE = "Dice"

logger = logging.getLogger(__name__)


def score_tags(name: str, value: float | None, measured_by: str) -> dict[str, str]:
    """Return the tags by which a registered version shows its score."""
    known = {} if value is None else {"score": f"{value:.4f}"}
    return {**known, "score_name": name, "score_of": measured_by}


@dataclass(frozen=True)
class ScoredResults:
    """What ``medseg-nca evaluate`` wrote.

    Attributes:
        folder: where ``metrics.json`` lies, with ``metrics.csv`` and ``report.html``.
        score: the number that decides, such as the mean Dice; None when no case counts.
        score_name: how people call it.
        on: which data, as "test of Task04_Hippocampus"; "" where it does not say.
    """

    folder: Path
    score: float | None
    score_name: str = DICE
    on: str = ""

    @property
    def files(self) -> tuple[Path, ...]:
        """Those of its files that exist."""
        return tuple(self.folder / name for name in FILES if (self.folder / name).is_file())

    @property
    def tags(self) -> dict[str, str]:
        """How a registered version shows it."""
        place = {"evaluated_on": self.on} if self.on else {}
        return {"evaluated": "yes", **score_tags(self.score_name, self.score, EVALUATION), **place}


def read_evaluation(path: Path, weights_sha256: str) -> ScoredResults:
    """Read an evaluation and see that it is of these weights.

    Args:
        path: ``metrics.json`` or the folder that holds it.
        weights_sha256: of the model that is registered.

    Raises:
        ModelError: if it cannot be read, names no score, or is of other weights.
    """
    file = path / METRICS if path.is_dir() else path
    again = "Run `medseg-nca evaluate --model RUN --data DIR --out RUN/evaluation` again."
    try:
        tree = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{file}: is not a readable evaluation ({error}).", hint=again) from error
    name, score = _score(tree)
    if name is None:
        raise ModelError(f"{file}: has no entry 'score'.", hint=again)
    evaluated = _entry(tree, "model", "weights_sha256")
    if evaluated != weights_sha256:
        raise ModelError(
            f"{file}: evaluates other weights (sha256 {evaluated[:12] or 'unknown'}..., those of "
            f"the model are {weights_sha256[:12]}...).",
            hint=again,
        )
    known = isinstance(score, int | float) and math.isfinite(score)
    split, data = _entry(tree, "split", "name"), _entry(tree, "data", "name")
    on = " of ".join(part for part in (split, data) if part)
    return ScoredResults(file.parent, float(score) if known else None, name, on)


def _score(tree: Any) -> tuple[str | None, Any]:
    """Name and value of the score; until November 2026 there was only a mean Dice."""
    if not isinstance(tree, dict):
        return None, None
    if isinstance(tree.get("score"), dict):
        return str(tree["score"].get("name", "score")), tree["score"].get("value")
    return (DICE, tree["mean_dice"]) if "mean_dice" in tree else (None, None)


def remember_evaluation(run: Path, side: str, folder: Path) -> None:
    """Write into a run folder where its evaluation on a side of the split lies.

    Raises:
        OutputError: if it cannot be written.
    """
    places = {**_places(run), side: str(folder.resolve())}
    write_json(run / PLACES, places)


def find_evaluation(run: Path, weights_sha256: str) -> ScoredResults | None:
    """Find the evaluation of a run's model: in the run folder, else where it was last written.

    Held-out cases count before those that the training has seen. An evaluation of other weights,
    or one that is gone, is passed over.
    """
    places = _places(run)
    known = [Path(places[side]) for side in SIDES if side in places]
    for folder in (run / "evaluation", *known):
        if not (folder / METRICS).is_file():
            continue
        try:
            return read_evaluation(folder, weights_sha256)
        except ModelError as error:
            logger.warning("An evaluation is passed over: %s", error)
    return None


def _places(run: Path) -> dict[str, str]:
    """The folder of the evaluation on each side, as far as it was noted."""
    try:
        tree = json.loads((run / PLACES).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {str(k): str(v) for k, v in tree.items()} if isinstance(tree, dict) else {}


def _entry(tree: dict[str, Any], *keys: str) -> str:
    """A text inside nested mappings, "" where there is none."""
    found: Any = tree
    for key in keys:
        found = found.get(key) if isinstance(found, dict) else None
    return "" if found is None else str(found)
