"""Compare the intensities of an image with those of the training."""

from __future__ import annotations

import numpy as np

from medseg_nca.tasks.classification.options import ClassificationOptions
from medseg_nca.tasks.classification.prepare import Array, Facts

# The ends of an image's range that are compared, in percent; a few odd pixels do not count.
_ENDS = (1.0, 99.0)
# By how many ranges of the training an image may reach beyond it, and the least share of it that
# an image fills. Both are generous, because a warning that comes often is not read.
_BEYOND, _LEAST = 1.0, 0.05


def unlike_training(image: Array, facts: Facts, options: ClassificationOptions) -> str | None:
    """Return in what an image's intensities differ from those of the training; None if in nothing.

    Nothing is compared if the model normalises each image by itself, because the intensities as
    they were read then do not matter.

    Args:
        image: the prepared image ``(channels, *size)``.
        facts: facts of the model.
        options: options of the model.
    """
    if options.normalise == "image":
        return None
    flat = image.reshape(len(image), -1).astype(np.float64)
    if options.normalise == "dataset":
        flat = flat * np.array(facts.sd)[:, None] + np.array(facts.mean)[:, None]
    for values, low, high in zip(flat, facts.low, facts.high, strict=True):
        least, most = np.percentile(values, _ENDS)
        span = high - low
        if span <= 0:
            continue
        if least < low - _BEYOND * span or most > high + _BEYOND * span:
            return f"its intensities run from {least:.4g} to {most:.4g}, {_usual(low, high)}"
        if most - least < _LEAST * span:
            return f"its intensities run only from {least:.4g} to {most:.4g}, {_usual(low, high)}"
    return None


def _usual(low: float, high: float) -> str:
    return f"those of the training from {low:.4g} to {high:.4g}"
