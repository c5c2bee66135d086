"""What is known of DICOM files before their pixels are read: planes, stacks, series, problems.

These are plain values (they cross processes and are compared in tests); no pydicom object is kept.
They hold what identifies a patient and are never logged.

Array order of every DICOM volume is that of dcm2niix: x counts the columns, y counts the rows from
the last to the first, z goes along ``cross(row direction, column direction)``. The affine says
where that is, so nothing downstream depends on it. (MR series of a 3D acquisition are turned
further by dcm2niix; :func:`medseg_nca.io.dicom.series.turn.as_dcm2niix` does the same for an
import.)

A 2D image that has no place in the patient is laid out as a PNG: x counts the columns, y the rows
from the first to the last, and the affine only holds the size of a pixel.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Vector = tuple[float, float, float]

# Notes that a person should look at: something may be missing, or was concluded from little.
DOUBTS = frozenset(
    {
        # of series
        "fewer-images", "wider-spacing", "unequal-volumes", "by-number", "assumed-slope",
        "assumed-intercept",
        # of annotations
        "no-reference", "no-frame-of-reference", "other-frame-of-reference", "unknown-segment",
        "outside-image", "not-in-slice", "slices-between-contours", "bad-contour",
    }
)  # fmt: skip


class Meaning(NamedTuple):
    """What a header says of the values of a plane; one volume has one meaning.

    Attributes:
        unit: Units, else RescaleType; "" where it names none.
        rescale: ``none`` where the header has neither slope nor intercept, ``same`` where they
            change nothing, else ``own``.
        shown: MONOCHROME1 where values may be turned for it, else "".
    """

    unit: str = ""
    rescale: str = "none"
    shown: str = ""


_UNKNOWN = Meaning()


@dataclass(frozen=True)
class Plane:
    """One image plane: a classic instance, or one frame of a multi-frame instance.

    Attributes:
        path: the file.
        frame: 0-based number in the file; None for an instance with a single frame.
        sop_instance_uid: of the file; "" where it has none.
        position: centre of the first voxel, LPS mm; None where the file has none.
        row, column: unit vectors (LPS) along which the column and the row number grow
            (the two halves of ImageOrientationPatient); None where the file has none.
        spacing: mm between rows, mm between columns, as PixelSpacing has them.
        shape: rows, columns.
        instance_number: InstanceNumber, or the frame's number.
        keys: what tells the volumes of a 4D series apart, for example ``{"echo": 1, "b": 1000}``.
        thickness: SpacingBetweenSlices, else SliceThickness, mm; None where the file has neither.
            It is the z spacing of a single plane only.
        meaning: what the header says of its values.
        sop_class_uid: of the file.
    """

    path: Path
    frame: int | None
    sop_instance_uid: str
    position: Vector | None
    row: Vector | None
    column: Vector | None
    spacing: tuple[float, float] | None
    shape: tuple[int, int]
    instance_number: int | None = None
    keys: Mapping[str, str | float | int] = field(default_factory=dict)
    thickness: float | None = None
    meaning: Meaning = _UNKNOWN
    sop_class_uid: str = ""


@dataclass(frozen=True)
class Problem:
    """Why something is no volume, with the files, positions or values that show it.

    Attributes:
        kind: a fixed word for programs, for example ``missing-slices``; see docs/dicom.md.
        message: one sentence for people; names positions and numbers, no patient.
    """

    kind: str
    message: str


@dataclass(frozen=True)
class Stack:
    """Planes that make one volume, in the order of the z axis; or one plane that is a 2D image.

    Attributes:
        name: "" if it is the only one of its series, else what tells it apart: ``echo-1``, ``b-0``.
        shape: x, y, z; or x, y for a 2D image.
        affine: 4x4, voxel index to RAS+ mm, for the array order of this module.
        shear_mm: how far each next plane is shifted within the plane by gantry tilt; 0 if none.
            ``affine`` is the sheared one; reading resamples to an upright grid.
    """

    name: str
    planes: tuple[Plane, ...]
    shape: tuple[int, ...]
    affine: NDArray[np.float64]
    shear_mm: float = 0.0


@dataclass(frozen=True)
class Series:
    """All files with one SeriesInstanceUID.

    ``tags`` are values that a person selects and checks by, under DICOM's keywords:
    Modality, SeriesDescription, SeriesNumber, BodyPartExamined, Manufacturer, ...

    ``files`` leaves out copies that were passed over; ``damaged`` are files that say that they
    belong to the series and cannot be read, for which it has no volumes. ``problems`` say why
    planes make no volume; ``notes`` say what was passed over or assumed, and do not stand in the
    way of ``stacks``.
    """

    uid: str
    study_uid: str
    patient_id: str
    frame_of_reference_uid: str | None
    kind: Literal["image", "seg", "rtstruct", "other"]
    files: tuple[Path, ...]
    tags: Mapping[str, str]
    stacks: tuple[Stack, ...] = ()
    problems: tuple[Problem, ...] = ()
    notes: tuple[Problem, ...] = ()
    damaged: tuple[Path, ...] = ()

    @property
    def refused(self) -> tuple[Problem, ...]:
        """Why a part of it, or all of it, is no volume; localizers are meant to be none."""
        return tuple(problem for problem in self.problems if problem.kind != "localizer")

    @property
    def doubts(self) -> tuple[Problem, ...]:
        """The notes that a person should look at."""
        return tuple(note for note in self.notes if note.kind in DOUBTS)

    @property
    def number(self) -> float:
        """SeriesNumber, to sort by; 0 where there is none."""
        text = self.tags.get("SeriesNumber", "")
        return float(text) if text.isdecimal() else 0.0


@dataclass(frozen=True)
class Source:
    """What a DICOM volume came from; under ``Volume.header["dicom"]``.

    The planes are in z order, so plane ``k`` is ``array[..., k]`` unless ``resampled``.
    """

    stack: Stack
    series_uid: str
    study_uid: str
    frame_of_reference_uid: str | None
    modality: str
    resampled: bool = False


@dataclass(frozen=True)
class Scan:
    """What lies in a folder tree: its series, and the files that cannot be read, with reasons.

    ``passed_over`` counts what is no DICOM image and was not looked into, by reason: ``hidden``,
    ``link``, ``not-dicom``, ``dicomdir``, ``special``.
    """

    root: Path
    series: tuple[Series, ...]
    unreadable: Mapping[Path, Problem] = field(default_factory=dict)
    passed_over: Mapping[str, int] = field(default_factory=dict)
