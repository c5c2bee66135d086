"""Read a labelled case, and check it by the rules that every stage shares.

Who compares with a label map (``evaluate``, the validation of a training, figures) reads it here,
so that nothing is counted that ``data check`` and ``preprocess`` refuse.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from medseg_nca.datasets.rules import label_map_problem
from medseg_nca.errors import ImageError
from medseg_nca.io.grid import grid_difference
from medseg_nca.io.read import read_image, read_label
from medseg_nca.io.volume import Volume
from medseg_nca.transforms.encode import value_counts

if TYPE_CHECKING:
    from medseg_nca.io.dicom.annotations.legend import Legend


class CaseFiles(Protocol):
    """A case, raw or prepared."""

    @property
    def id(self) -> str:
        """The case's name."""

    @property
    def images(self) -> tuple[Path, ...]:
        """Its image."""

    @property
    def label(self) -> Path | None:
        """Its label map."""

    @property
    def segments(self) -> Legend | None:
        """What numbers the segments of a DICOM label have."""


def read_labelled(case: CaseFiles, known: frozenset[int] | None) -> tuple[Volume, Volume]:
    """Read image and label map of a case and check that they belong together.

    Args:
        case: with a label map.
        known: every number that the label map may hold; None if nobody knows.

    Raises:
        ImageError: if a file cannot be used, their grids differ, or the label map holds a number
            that is not known.
    """
    if case.label is None:
        raise ImageError(f"{case.id}: has no label map.")
    image = read_image(case.images)
    truth = read_label(case.label, image, case.segments)
    difference = grid_difference(image, truth)
    if difference is not None:
        raise ImageError(
            f"{case.label}: is not on the grid of its image: {difference}.",
            hint="Resample the label map to the grid of its image.",
        )
    problem = label_map_problem(value_counts(truth.array), known)
    if problem is not None:
        raise ImageError(f"{case.label}: {problem.message}", hint=problem.hint)
    return image, truth
