"""Tell how the images of a run compare with the images of the training, once for all images."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from medseg_nca.config import PreprocessPlan
from medseg_nca.io.formats import in_short

logger = logging.getLogger(__name__)

# The warning for a model of an older version, which does not know its training images.
_NOT_KNOWN = (
    "The model does not say what the images that it learned from were like: no image is compared "
    "with them{more}."
)


def read_likeness(tree: Any) -> dict[str, Any]:
    """Read what ``Likeness.to_dict`` returned.

    Raises:
        KeyError, TypeError, ValueError: if the tree is something else.
    """
    brought = tree["brought"]
    return {
        "spacing": [float(v) for v in tree["spacing"]],
        "brought": None if brought is None else str(brought),
        "unlike": [str(text) for text in tree["unlike"]],
    }


def tell_of_training(
    images: Mapping[str, Mapping[str, Any]], plan: PreprocessPlan
) -> tuple[str, ...]:
    """Log, and return, how images compare with those of the training and what was done about it.

    Args:
        images: what ``Likeness.to_dict`` says of each image, by name.
        plan: the model's preprocessing.
    """
    done, doubts = notes_on_training(images)
    if plan.training is None and images:
        more = "" if plan.spacing else ", or brought to their spacing"
        doubts.append(_NOT_KNOWN.format(more=more))
    for note in done:
        logger.info("%s", note)
    for note in doubts:
        logger.warning("%s", note)
    return (*done, *doubts)


def notes_on_training(images: Mapping[str, Mapping[str, Any]]) -> tuple[list[str], list[str]]:
    """Group what was found of many images.

    Args:
        images: what ``Likeness.to_dict`` says of each image, by name.

    Returns:
        Sentences that name the images: what was done to them, and why their results may be wrong.
    """
    brought: dict[str, list[str]] = {}
    unlike: dict[str, list[str]] = {}
    for name, found in images.items():
        if found["brought"] is not None:
            brought.setdefault(found["brought"], []).append(name)
        for text in found["unlike"]:
            unlike.setdefault(text, []).append(name)
    done = [f"{_of(names, images)}: {text}." for text, names in brought.items()]
    doubts = [
        f"{_of(names, images)} {'is' if len(images) == 1 else 'are'} unlike the images that the "
        f"model learned from: {text}. "
        "Look at the result with care."
        for text, names in unlike.items()
    ]
    return done, doubts


def _of(names: list[str], images: Mapping[str, Any]) -> str:
    if len(images) == 1:
        return names[0]
    return f"{len(names)} of {len(images)} images ({in_short(names)})"
