"""A stored answer, by which a classifying model is checked on another machine."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from medseg_nca.inference.task_model import TaskModel
from medseg_nca.tasks.base import Agreement
from medseg_nca.tasks.classification.classify import Classifier
from medseg_nca.tracking.stored_answer import compare_answer, store_answer

FORMULA = "class-waves-1"
_WAVES = 4


def make_reference(model: TaskModel) -> dict[str, str]:
    """Return the model's probabilities for four patterns, as ``model.json`` keeps them."""
    return store_answer(_answer(model), FORMULA)


def check_reference(model: TaskModel) -> Agreement:
    """Answer the patterns again, and compare the answer with the stored one.

    Raises:
        ModelError: if no answer is stored, or it cannot be read.
    """
    return compare_answer(_answer(model), FORMULA, model)


def _answer(model: TaskModel) -> NDArray[np.float64]:
    """Return a model's answer ``(4, K)`` to waves of four lengths, made without random numbers."""
    classifier = Classifier.of(model)
    facts = classifier.facts
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in facts.size), indexing="ij")
    images = [
        [
            sum(np.cos((2 + 2 * wave + k) * axis + channel) for k, axis in enumerate(axes))
            for channel in range(facts.channels)
        ]
        for wave in range(_WAVES)
    ]
    return classifier.probabilities(np.array(images, np.float32))
