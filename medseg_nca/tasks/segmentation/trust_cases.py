"""The masks of one case in a study of estimates: clean, and under every artificial fault."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from medseg_nca.config import LabelTable
from medseg_nca.errors import DataError, MemoryBudgetError, NonFiniteStateError
from medseg_nca.inference.passes import stochastic_passes
from medseg_nca.inference.predictor import Prediction, Predictor
from medseg_nca.io.volume import Volume
from medseg_nca.job import ONE_CASE, Job
from medseg_nca.metrics.overlap import Counts, label_masks
from medseg_nca.trust.baselines import Baselines, baselines
from medseg_nca.trust.corruptions import STRENGTHS, Corruption, corrupted, fault_seed

CLEAN = "clean"
# Stochastic passes that the baselines are computed from.
PASSES = 8
# Because of these errors an image has no answer, which says nothing against the study.
_REFUSALS = (DataError, NonFiniteStateError, MemoryBudgetError)


@dataclass(frozen=True)
class MaskRow:
    """One mask: a label of an image, with its true Dice and every score. A row of ``trust.csv``.

    Attributes:
        case: id of the case.
        corruption: name of the fault, or "clean".
        strength: of the fault; 0 for a clean image.
        label: name of the label.
        dice: true Dice.
        predicted: the model's estimate of the Dice; None if it has none.
        low: lower end of the estimate's interval.
        high: upper end.
        verdict: on the label; "unknown" without an estimate.
        image_verdict: on the whole image; never better than those on its labels.
        nqm: see :class:`.Baselines`, as the next two.
        pairwise_dice: mean Dice between passes.
        entropy: mean entropy in the mask.
        empty: whether the mask has no voxel.
    """

    case: str
    corruption: str
    strength: int
    label: str
    dice: float
    predicted: float | None
    low: float | None
    high: float | None
    verdict: str
    image_verdict: str
    nqm: float | None
    pairwise_dice: float | None
    entropy: float | None
    empty: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, in the order of the columns of ``trust.csv``."""
        return asdict(self)


@dataclass(frozen=True)
class RefusedImage:
    """An image that got no answer, with the reason."""

    case: str
    corruption: str
    strength: int
    reason: str


@dataclass(frozen=True)
class StudiedCase:
    """What was measured on one case.

    Attributes:
        rows: a row for each mask.
        refused: images without an answer.
        confidence: of the intervals; None if no image has an estimate.
    """

    rows: tuple[MaskRow, ...]
    refused: tuple[RefusedImage, ...]
    confidence: float | None = None


def study_case(
    predictor: Predictor,
    case: str,
    pair: tuple[Volume, Volume],
    truth_labels: LabelTable,
    corruptions: Mapping[str, Corruption],
    job: Job,
) -> StudiedCase:
    """Measure the masks of a case, clean and under every fault at every strength.

    Args:
        predictor: the model.
        case: id of the case; it decides what is random in the faults.
        pair: image and label map.
        truth_labels: what the numbers of the label map mean, in the order of the model's labels.
        corruptions: the faults by name.
        job: gets the progress in the phase of one case.

    Raises:
        Interrupted: if the job was cancelled.
    """
    rows: list[MaskRow] = []
    refused: list[RefusedImage] = []
    confidence: float | None = None
    total = 1 + len(corruptions) * len(STRENGTHS)
    images = _images(case, pair, corruptions)
    for number, (name, strength, image, truth) in enumerate(images):
        job.report(ONE_CASE, number, total, unit="images")
        try:
            prediction = predictor.predict(image, job.silent())
            passes = stochastic_passes(predictor, image, PASSES, job.silent())
            scores = baselines(passes, predictor.spec.labels)
        except _REFUSALS as error:
            refused.append(RefusedImage(case, name, strength, str(error)))
            continue
        confidence = confidence or prediction.estimate.confidence
        masks = label_masks(
            prediction.label_map.array[0], truth.array[0], predictor.spec.labels, truth_labels
        )
        for label, (found, true) in masks.items():
            dice = Counts.of(found, true).dice
            if dice is not None:
                row = _row((case, name, strength), label, dice, prediction, scores[label])
                rows.append(replace(row, empty=not found.any()))
    job.report(ONE_CASE, total, total, unit="images")
    return StudiedCase(tuple(rows), tuple(refused), confidence)


def _images(
    case: str, pair: tuple[Volume, Volume], corruptions: Mapping[str, Corruption]
) -> Iterator[tuple[str, int, Volume, Volume]]:
    yield (CLEAN, 0, *pair)
    for name, corruption in corruptions.items():
        for strength in STRENGTHS:
            seed = fault_seed(case, name, strength)
            yield (name, strength, *corrupted(corruption, *pair, strength, seed))


def _row(
    image: tuple[str, str, int], label: str, dice: float, prediction: Prediction, scores: Baselines
) -> MaskRow:
    estimate = prediction.estimate
    own = estimate.labels.get(label)
    case, corruption, strength = image
    return MaskRow(
        case=case,
        corruption=corruption,
        strength=strength,
        label=label,
        dice=dice,
        predicted=None if own is None else own.dice,
        low=None if own is None else own.low,
        high=None if own is None else own.high,
        verdict="unknown" if own is None else own.verdict,
        image_verdict=estimate.verdict,
        nqm=scores.nqm,
        pairwise_dice=scores.pairwise_dice,
        entropy=scores.entropy,
    )
