"""A finished segmentation with all that an output format may have to say about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from medseg_nca.config import LabelTable
from medseg_nca.errors import OutputError
from medseg_nca.io.volume import Volume

# The kinds of DICOM SEG.
SEG_TYPES = ("binary", "fractional", "labelmap")


def check_seg_type(seg_type: str) -> None:
    """Refuse a kind of DICOM SEG that does not exist.

    Raises:
        OutputError: if it does not.
    """
    if seg_type not in SEG_TYPES:
        raise OutputError(f"seg_type is {seg_type!r}; it can be {', '.join(SEG_TYPES)}.")


@dataclass(frozen=True)
class Algorithm:
    """What made it: name and version of the model, and of the package that ran it."""

    name: str
    version: str
    package_version: str = ""


@dataclass(frozen=True)
class PredictedDice:
    """How good the mask of one label probably is.

    Attributes:
        dice: predicted Dice with the truth, 0 to 1.
        low: lower end of its interval.
        high: upper end.
        verdict: "accept", "review" or "reject".
    """

    dice: float
    low: float
    high: float
    verdict: str


@dataclass(frozen=True)
class Segmentation:
    """A label map on the grid of its image.

    Attributes:
        label_map: ``(1, x, y, z)`` or ``(1, x, y)``, the numbers of ``labels``.
        labels: what the numbers mean.
        image: the image that was segmented; its ``header["dicom"]`` says which planes it came from.
        algorithm: what made it.
        probabilities: ``(K, x, y, z)`` in channel order of ``labels``, where they were asked for.
        quality: named figures about this result, for example ``{"uncertainty": 0.03}``.
        predicted_dice: by name of the label; empty where no quality was estimated.
        note: a few words that the description of a DICOM series says besides, such as "version 2".
    """

    label_map: Volume
    labels: LabelTable
    image: Volume
    algorithm: Algorithm
    probabilities: Volume | None = None
    quality: Mapping[str, float] = field(default_factory=dict)
    predicted_dice: Mapping[str, PredictedDice] = field(default_factory=dict)
    note: str = ""
