"""A stored answer, by which another machine recognises a model that classifies."""

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
    """What ``model.json`` keeps: the model's probabilities of the patterns."""
    return store_answer(_answer(model), FORMULA)


def check_reference(model: TaskModel) -> Agreement:
    """Answer again and compare.

    Raises:
        ModelError: if nothing is stored, or what is cannot be read.
    """
    return compare_answer(_answer(model), FORMULA, model)


def _answer(model: TaskModel) -> NDArray[np.float64]:
    """``(4, K)``: what a model says of waves of four lengths, without any random numbers."""
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
