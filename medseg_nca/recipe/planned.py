"""What the plan of a data set decided, as settings, and in words why."""

from __future__ import annotations

import json
from typing import Any

from medseg_nca.config import PreprocessPlan
from medseg_nca.datasets.prepared import FINGERPRINT, PreparedStore


def plan_value(plan: PreprocessPlan, key: str) -> Any:
    """The value of a ``preprocess.`` key that makes the same plan again."""
    name = key.removeprefix("preprocess.")
    value = getattr(plan, name)
    if name == "spacing" and value is None:
        return "keep"
    return list(value) if isinstance(value, tuple) else value


def plan_reason(store: PreparedStore, key: str) -> str:
    """Why the plan says so; of a store that was prepared by other settings too."""
    plan, count = store.plan, len(store.cases)
    name = key.removeprefix("preprocess.")
    if name == "spacing":
        if plan.spacing is None:
            return "each image keeps its own, as the data were prepared"
        return f"median of {count} images{_range(plan)}"
    if name == "crop":
        return _border(store)
    if name == "colour":
        return _channels(plan)
    if name == "normalise":
        if plan.normalise == "ct":
            return "CT: the intensities inside the labels of all images"
        return f"modality {plan.modality}: each image by its own intensities"
    multiple = "" if not plan.scales else f", whole cells of {_times(plan.scales[0])} voxels"
    return f"median size of {count} images within the memory{multiple}"


def _channels(plan: PreprocessPlan) -> str:
    if plan.colour == "grey":
        return "red, green and blue are the same in every picture, or were said to be"
    return f"channels: {', '.join(plan.channels[:4])}{', ...' if plan.channels[4:] else ''}"


def _border(store: PreparedStore) -> str:
    """What was measured of borders; stores of older versions do not tell."""
    try:
        found = json.loads((store.folder / FINGERPRINT).read_text(encoding="utf-8"))["box_share"]
        return f"what is not 0 fills {found['median']:.0%} of an image in the median"
    except (OSError, ValueError, KeyError, TypeError):
        return "as the data were prepared"


def _range(plan: PreprocessPlan) -> str:
    if plan.training is None or plan.training.finest == plan.training.coarsest:
        return ""
    low, high = (_times(v) for v in (plan.training.finest, plan.training.coarsest))
    return f", {low} to {high} mm"


def _times(values: tuple[float, ...]) -> str:
    return " x ".join(f"{v:.3g}" for v in values)
