"""Compare the intensities of an image with those of the training."""

from __future__ import annotations

import numpy as np

from medseg_nca.tasks.classification.options import ClassificationOptions
from medseg_nca.tasks.classification.prepare import Array, Facts
from medseg_nca.transforms.intensity_likeness import range_unlike
from medseg_nca.transforms.intensity_measures import ENDS


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
        least, most = (float(v) for v in np.percentile(values, ENDS))
        text = range_unlike((least, most), (low, high), (low, high))
        if text is not None:
            return text
    return None
