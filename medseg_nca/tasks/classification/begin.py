"""Begin a training: from a data set to a learner."""

from __future__ import annotations

import logging
from pathlib import Path

from medseg_nca.config import RunSettings
from medseg_nca.datasets.class_split import (
    check_sides,
    missing_notes,
    only_listed,
    side_counts,
    split_classes,
)
from medseg_nca.datasets.classes.base import ClassData
from medseg_nca.datasets.find_classes import open_classes
from medseg_nca.datasets.redraw import SPLIT, kept_of
from medseg_nca.datasets.splits import Split, read_split, write_split
from medseg_nca.errors import DataError
from medseg_nca.job import Job
from medseg_nca.tasks.base import Start
from medseg_nca.tasks.classification.build import build_network, resolved
from medseg_nca.tasks.classification.learner import ClassificationLearner
from medseg_nca.tasks.classification.options import ClassificationOptions
from medseg_nca.tasks.classification.survey import survey

logger = logging.getLogger(__name__)


def open_data(
    path: Path | None, settings: RunSettings | None, options: ClassificationOptions
) -> ClassData:
    """Open the data set that was given, or the built-in one that the options name.

    Raises:
        DataError: if there is neither, or as :func:`open_classes` raises it.
    """
    path = path or (Path(options.data) if options.data else None)
    if path is None:
        raise DataError(
            "The task classification needs data.",
            hint="Name them with --data, or set options.data=digits for the built-in digits.",
        )
    format = "auto" if settings is None else settings.data.format
    return open_classes(path, format, options.class_names)


def begin_training(
    start: Start, settings: RunSettings, options: ClassificationOptions, job: Job
) -> tuple[ClassificationLearner, Split, RunSettings]:
    """Open and divide the data, read the images, and return the learner.

    Args:
        start: what the training begins with.
        settings: settings of the run, with a value for every "auto".
        options: options of the task.
        job: gets the number of images that are read.

    Returns:
        The learner, the split, and the settings with the sizes that the data ask for.

    Raises:
        MedsegError: as :func:`open_data`, :func:`split_classes` and :func:`survey` raise it.
    """
    data = only_listed(open_data(start.data, settings, options), settings.data.split)
    split = _split_of(start, data, settings)
    counts = side_counts(data, split)
    logger.info(
        "%s: %d images of %d classes; %s.", data.name, len(data.images), len(data.classes),
        ", ".join(f"{sum(counts[side].values())} to {word}" for side, word in
                  (("train", "train"), ("val", "validate"), ("test", "test"))),
    )  # fmt: skip
    for note in (*data.notes, *missing_notes(data, split)):
        logger.warning("%s", note)
    known = {image.id: image for image in data.images}
    train, val = ([known[name] for name in side] for side in (split.train, split.val))
    facts, training, validation = survey(data, train, val, settings, options, job)
    facts = facts.changed(**kept_of(settings.data.split, split))
    settings = settings.changed(model=resolved(settings.model, facts))
    build_network(
        settings.model, options, facts
    )  # settings that do not fit are refused before the training
    learner = ClassificationLearner(
        settings, options, facts, training, validation, (data.name, data.hash)
    )
    return learner, split, settings


def _split_of(start: Start, data: ClassData, settings: RunSettings) -> Split:
    path = start.out / SPLIT
    if not (start.follows and path.exists()):
        split = split_classes(data, settings.data.split)
        if start.first:
            write_split(split, path)
        return split
    split = read_split(path)
    if split.dataset_hash != data.hash:
        raise DataError(
            f"{path}: the data set has changed since the run began.",
            hint="Start a new run, or bring the data back to what they were.",
        )
    check_sides(data, split)
    return split
