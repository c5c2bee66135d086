"""What a data set is: cases with files, a label table, and where they came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from medseg_nca.config import LabelTable

if TYPE_CHECKING:
    from medseg_nca.io.dicom.annotations.legend import Legend

Side = Literal["train", "val", "test"]


@dataclass(frozen=True)
class Case:
    """One subject's image and, where there is one, its label map.

    Attributes:
        id: unique in the data set, usable as a file name.
        images: one file per image channel, or a single file that holds all channels.
        label: the label map, None for unlabelled cases.
        patient: cases of one patient stay on one side of a split; None means a patient of its own.
        site: where it was acquired.
        split: a side that the data set itself prescribes.
        meta: anything else the adapter knows.
        segments: the numbers of the segments, where the label map is a DICOM SEG or RTSTRUCT.
    """

    id: str
    images: tuple[Path, ...]
    label: Path | None = None
    patient: str | None = None
    site: str | None = None
    split: Side | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)
    segments: Legend | None = None


@dataclass(frozen=True)
class DataSet:
    """A list of cases (sorted by id) with what is known of all of them.

    ``labels`` is None when the layout does not say what the numbers mean; then the preprocessing
    looks at the label maps and names the labels ``label_1``, ``label_2``, ...
    """

    name: str
    root: Path
    format: str
    dims: Literal[2, 3]
    channels: tuple[str, ...]
    cases: tuple[Case, ...]
    labels: LabelTable | None = None
    modality: str = "unknown"
    licence: str | None = None
    description: str = ""

    @property
    def labelled(self) -> tuple[Case, ...]:
        """The cases that have a label map."""
        return tuple(case for case in self.cases if case.label is not None)
