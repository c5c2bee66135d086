"""The plan of a run: its settings with every "auto" decided, the reasons, and how both are kept."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from medseg_nca.config import RunSettings
from medseg_nca.config.auto import LEFT_TO_PLAN, LEFT_TO_RECIPE, has_key, value_at
from medseg_nca.config.loading import read_settings, to_yaml
from medseg_nca.errors import DataError
from medseg_nca.io.atomic import write_json, write_text
from medseg_nca.pipelines.run_folder import RECIPE, SETTINGS
from medseg_nca.recipe import SET, Decision, is_undecided
from medseg_nca.recipe.schedule import iterations
from medseg_nca.tracking.store import shown

logger = logging.getLogger(__name__)

# What a run that goes on may be told anew, besides its device and its tracking store.
_MAY_CHANGE = ("training.max_minutes", "training.iterations", "training.workers")


@dataclass(frozen=True)
class RunPlan:
    """What a run does, and why.

    Attributes:
        settings: resolved.
        decisions: one a row of the table.
        remarks: what is to be known of the time, in whole sentences.
    """

    settings: RunSettings
    decisions: tuple[Decision, ...]
    remarks: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "decisions": [asdict(decision) for decision in self.decisions],
            "remarks": list(self.remarks),
        }


def write_run_plan(out: Path, plan: RunPlan) -> None:
    """Write settings and reasons into the run folder."""
    write_settings(out, plan.settings)
    write_json(out / RECIPE, [asdict(decision) for decision in plan.decisions])


def read_run_plan(out: Path, settings: RunSettings) -> RunPlan | None:
    """The plan that a run was started with; None where it has none, or was not decided yet.

    Args:
        out: the run folder.
        settings: as they lie in it, perhaps with another time.
    """
    try:
        rows = json.loads((out / RECIPE).read_text(encoding="utf-8"))
        decisions = tuple(Decision(row["key"], row["value"], row["reason"]) for row in rows)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if any(is_undecided(settings, decision.key) for decision in decisions):
        return None
    return RunPlan(settings, decisions)


def write_settings(out: Path, settings: RunSettings) -> None:
    """Write ``settings.yaml``, without a password of the tracking store."""
    uri = settings.tracking.uri
    public = settings.tracking.changed(uri=shown(uri) if uri else None)
    write_text(out / SETTINGS, to_yaml(settings.changed(tracking=public)))


def stored_settings(out: Path, settings: RunSettings) -> RunSettings:
    """The settings of the run that goes on.

    Only how long it may go on, where and with how many workers can change: anything else would be
    another run.

    Raises:
        DataError: if there is no run.
    """
    path = out / SETTINGS
    if not path.exists():
        raise DataError(
            f"{out}: there is no run to resume.", hint="Leave --resume out to start one."
        )
    stored = read_settings(path)
    given = settings.with_values(_of_stored(out, stored, settings))
    tree = given.model_dump(mode="json")
    # A run that was stopped before its plan still holds "auto", which what is said now replaces.
    resumed = stored.with_values({key: value_at(tree, key) for key in _MAY_CHANGE})
    resumed = resumed.changed(device=settings.device, tracking=settings.tracking)
    fields = type(settings).model_fields
    changed = [name for name in fields if getattr(given, name) != getattr(resumed, name)]
    if changed:
        logger.warning(
            "A resumed run keeps its settings; what was given for %s is ignored.",
            ", ".join(changed),
        )
    return resumed


def _of_stored(out: Path, stored: RunSettings, settings: RunSettings) -> dict[str, Any]:
    """What the run decided where nothing is said now."""
    tree = stored.model_dump(mode="json")
    free = [key for key in (*LEFT_TO_PLAN, *LEFT_TO_RECIPE) if is_undecided(settings, key)]
    values = {key: value_at(tree, key) for key in free if has_key(tree, key)}
    plan = read_run_plan(out, stored)
    by_recipe = {d.key for d in plan.decisions if d.reason != SET} if plan else set()
    if "training.iterations" in by_recipe & values.keys():
        values["training.iterations"] = iterations(settings.training.max_minutes)[0]
    return values
