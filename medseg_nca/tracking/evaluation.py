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

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Evaluation:
    """What ``medseg-nca evaluate`` wrote.

    Attributes:
        folder: where ``metrics.json`` lies, with ``metrics.csv`` and ``report.html``.
        mean_dice: mean over labels and cases; None when no case counts.
        on: which data, as "test of Task04_Hippocampus"; "" where it does not say.
    """

    folder: Path
    mean_dice: float | None
    on: str = ""

    @property
    def files(self) -> tuple[Path, ...]:
        """Those of its files that exist."""
        return tuple(self.folder / name for name in FILES if (self.folder / name).is_file())

    @property
    def tags(self) -> dict[str, str]:
        """How a registered version shows it."""
        dice = {} if self.mean_dice is None else {"dice": f"{self.mean_dice:.4f}"}
        place = {"evaluated_on": self.on} if self.on else {}
        return {"evaluated": "yes", "dice_of": "evaluation", **dice, **place}


def read_evaluation(path: Path, weights_sha256: str) -> Evaluation:
    """Read an evaluation and see that it is of these weights.

    Args:
        path: ``metrics.json`` or the folder that holds it.
        weights_sha256: of the model that is registered.

    Raises:
        ModelError: if it cannot be read, has no mean Dice entry, or is of other weights.
    """
    file = path / METRICS if path.is_dir() else path
    again = "Run `medseg-nca evaluate --model RUN --data DIR --out RUN/evaluation` again."
    try:
        tree = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{file}: is not a readable evaluation ({error}).", hint=again) from error
    if not isinstance(tree, dict) or "mean_dice" not in tree:
        raise ModelError(f"{file}: has no entry 'mean_dice'.", hint=again)
    evaluated = _entry(tree, "model", "weights_sha256")
    if evaluated != weights_sha256:
        raise ModelError(
            f"{file}: evaluates other weights (sha256 {evaluated[:12] or 'unknown'}..., those of "
            f"the model are {weights_sha256[:12]}...).",
            hint=again,
        )
    dice = tree["mean_dice"]
    known = isinstance(dice, int | float) and math.isfinite(dice)
    split, data = _entry(tree, "split", "name"), _entry(tree, "data", "name")
    on = " of ".join(part for part in (split, data) if part)
    return Evaluation(file.parent, float(dice) if known else None, on)


def remember_evaluation(run: Path, side: str, folder: Path) -> None:
    """Write into a run folder where its evaluation on a side of the split lies.

    Raises:
        OutputError: if it cannot be written.
    """
    places = {**_places(run), side: str(folder.resolve())}
    write_json(run / PLACES, places)


def find_evaluation(run: Path, weights_sha256: str) -> Evaluation | None:
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
