"""Find and read the evaluation that belongs to a model, for its registered version."""

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
# File in a run folder that says where the evaluations of its model are.
PLACES = "evaluations.json"
# Sides of a split; an evaluation on an earlier one in this list is preferred.
SIDES = ("test", "all", "val", "train")

# Values of the tag ``score_of`` of a version: where the number in its tag ``score`` comes from.
EVALUATION, VALIDATION = "evaluation", "validation"
DICE = "Dice"

logger = logging.getLogger(__name__)


def score_tags(name: str, value: float | None, measured_by: str) -> dict[str, str]:
    """Return the tags of a registered version that hold its score.

    Args:
        name: name of the score, such as "Dice".
        value: the score; None if there is none.
        measured_by: ``EVALUATION`` or ``VALIDATION``.
    """
    known = {} if value is None else {"score": f"{value:.4f}"}
    return {**known, "score_name": name, "score_of": measured_by}


@dataclass(frozen=True)
class ScoredResults:
    """The results that ``medseg-nca evaluate`` wrote.

    Attributes:
        folder: folder that holds ``metrics.json``, ``metrics.csv`` and ``report.html``.
        score: the number by which models are judged, such as the mean Dice; None if no case has
            one.
        score_name: name of the score, as people write it.
        on: side and data set, such as "test of Task04_Hippocampus"; "" if they are not known.
    """

    folder: Path
    score: float | None
    score_name: str = DICE
    on: str = ""

    @property
    def files(self) -> tuple[Path, ...]:
        """The files of the results that exist."""
        return tuple(self.folder / name for name in FILES if (self.folder / name).is_file())

    @property
    def tags(self) -> dict[str, str]:
        """Return the tags of a registered version with these results."""
        place = {"evaluated_on": self.on} if self.on else {}
        return {"evaluated": "yes", **score_tags(self.score_name, self.score, EVALUATION), **place}


def read_evaluation(path: Path, weights_sha256: str) -> ScoredResults:
    """Read an evaluation, and check that it evaluated these weights.

    Args:
        path: ``metrics.json`` or the folder that holds it.
        weights_sha256: sha256 of the weights of the model that is registered.

    Raises:
        ModelError: if it cannot be read, has no score, or evaluated other weights.
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
    """Return name and value of the score; files until November 2026 have only a mean Dice."""
    if not isinstance(tree, dict):
        return None, None
    if isinstance(tree.get("score"), dict):
        return str(tree["score"].get("name", "score")), tree["score"].get("value")
    return (DICE, tree["mean_dice"]) if "mean_dice" in tree else (None, None)


def remember_evaluation(run: Path, side: str, folder: Path) -> None:
    """Note in a run folder which folder holds its evaluation on a side of the split.

    Raises:
        OutputError: if it cannot be written.
    """
    places = {**_places(run), side: str(folder.resolve())}
    write_json(run / PLACES, places)


def find_evaluation(run: Path, weights_sha256: str) -> ScoredResults | None:
    """Find the evaluation of a run's model, in the run folder or else where it was last written.

    An evaluation on held-out cases is preferred to one on cases of the training. An evaluation of
    other weights, or one whose files are gone, is left out with a warning.
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
    """Return the folder of the evaluation on each side, for the sides that were noted."""
    try:
        tree = json.loads((run / PLACES).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {str(k): str(v) for k, v in tree.items()} if isinstance(tree, dict) else {}


def _entry(tree: dict[str, Any], *keys: str) -> str:
    """Return a text inside nested mappings; "" if there is none."""
    found: Any = tree
    for key in keys:
        found = found.get(key) if isinstance(found, dict) else None
    return "" if found is None else str(found)
