"""Measure one pair, in whatever process: predict its image, compare, and keep a record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from medseg_nca.datasets.pairs import Pair
from medseg_nca.job import Job
from medseg_nca.metrics.regression import Values, constant_metrics, real_metrics
from medseg_nca.tasks.regression.pairs import check_like, read_pair
from medseg_nca.tasks.regression.shared import SharedRegression
from medseg_nca.work.case_records import content_key, record_path
from medseg_nca.work.finished import FinishedRecord, content_of, finished_or

# The most voxels of a case that the figure of agreement shows.
_SAMPLED = 2000
# Raise it when the same files, settings and model give other numbers.
_RECORD_VERSION = 1


@dataclass(frozen=True)
class EvaluatingPair:
    """One pair to evaluate.

    Attributes:
        pair: an image and its target.
        model: the model with its settings.
        out: folder of the results, in which finished pairs leave a record.
    """

    pair: Pair
    model: SharedRegression
    out: Path

    @property
    def files(self) -> tuple[Path, ...]:
        """The files of the pair: images and target."""
        return (*self.pair.images, self.pair.target)

    def absolute(self) -> Self:
        """Return the same with absolute paths, for workers that have another current folder."""
        images = tuple(path.absolute() for path in self.pair.images)
        pair = replace(self.pair, images=images, label=self.pair.label.absolute())
        return replace(self, pair=pair, out=self.out.absolute())


@dataclass(frozen=True)
class Measured:
    """The metrics of a pair.

    Attributes:
        values: metrics of each target channel.
        constant: metrics of the constant predictor for each target channel.
        sample: truth and prediction ``(2, n)`` of some known voxels, for each target channel.
        unlike: in what the image differs from the images of the training.
        cached: whether an earlier run, which was interrupted, measured the pair.
    """

    values: tuple[Values, ...]
    constant: tuple[Values, ...]
    sample: tuple[NDArray[np.float32], ...]
    unlike: tuple[str, ...] = ()
    cached: bool = False


class PairRecord(FinishedRecord):
    """A pair that was measured, as its record holds it; the fields are those of :class:`Measured`.

    ``sample`` holds truth and prediction as lists.
    """

    values: tuple[Values, ...]
    constant: tuple[Values, ...]
    sample: tuple[tuple[list[float], list[float]], ...]
    unlike: tuple[str, ...]


def measure_pair(work: EvaluatingPair, job: Job) -> Measured:
    """Measure a pair, or take what an interrupted run found of the same files in the same way.

    Raises:
        DataError: if the pair cannot be used.
        OutputError: if the record cannot be written.
        Interrupted: if the job was cancelled.
    """
    facts = work.model.predictor.facts
    contents = [content_of(path) for path in work.files]
    key = content_key(_RECORD_VERSION, contents, facts.unknown, work.model.key)
    record, cached = finished_or(
        record_path(work.out, work.pair.id),
        PairRecord,
        key,
        lambda known: len(known.values) == len(facts.targets),
        partial(_measure, work, key, job),
    )
    sample = tuple(np.array(part, np.float32) for part in record.sample)
    return Measured(record.values, record.constant, sample, record.unlike, cached)


def _measure(work: EvaluatingPair, key: str, job: Job) -> PairRecord:
    predictor = work.model.predictor
    facts = predictor.facts
    read = read_pair(work.pair, facts.unknown)
    channels = len(facts.plan.channels)
    check_like(work.pair, read, facts.plan.dims, channels, len(facts.targets))
    prediction = predictor.predict(read.image, job)
    channel_pairs = list(zip(prediction.values.array, read.target, strict=True))
    return PairRecord(
        key=key,
        values=tuple(real_metrics(found, truth) for found, truth in channel_pairs),
        constant=tuple(
            constant_metrics(known.average, truth)
            for known, truth in zip(facts.targets, read.target, strict=True)
        ),
        sample=tuple(_sample(found, truth) for found, truth in channel_pairs),
        unlike=prediction.likeness.unlike,
    )


def _sample(predicted: NDArray[Any], truth: NDArray[Any]) -> tuple[list[float], list[float]]:
    """Return truth and prediction of some known voxels, the same ones each time."""
    places: Sequence[int] | NDArray[Any] = np.flatnonzero(~np.isnan(truth))
    if len(places) > _SAMPLED:
        places = np.random.default_rng(0).choice(places, _SAMPLED, replace=False)
    return truth.flat[places].tolist(), predicted.flat[places].tolist()
