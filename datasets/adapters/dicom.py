"""A folder tree with DICOM series; label maps are the SEG or RTSTRUCT objects that refer to them.

Nothing is converted: images and label maps are read from the files as they lie. Headers are read to
list the cases, so a large archive is better imported once (``medseg-nca dicom import``). A volume
has one label map: of several objects the first counts, SEG before RTSTRUCT. A series that makes no
volume is a case too, which fails by name when it is read.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from medseg_nca.config import LabelTable
from medseg_nca.datasets.base import Case, DataSet
from medseg_nca.datasets.layout import look, modality_of, names_for, safe_id, sorted_cases
from medseg_nca.errors import DataError

if TYPE_CHECKING:
    from medseg_nca.io.dicom.annotations.assign import Annotation
    from medseg_nca.io.dicom.annotations.concepts import Concept
    from medseg_nca.io.dicom.annotations.legend import Legend
    from medseg_nca.io.dicom.records import Scan, Series, Stack

# This many files are looked at before a tree counts as one without DICOM.
MOST_FILES = 200
# The names of channels, by DICOM's modality.
CHANNELS = {"MR": "MRI", "PT": "PET"}
MIXED = "mixed"
# The most characters of a PatientID (VR LO).
MOST_LETTERS = 64

log = logging.getLogger(__name__)


class Dicom:
    """See :class:`medseg_nca.datasets.find.Adapter`."""

    layout = "any tree of DICOM files"
    rank = 90

    def recognises(self, path: Path) -> bool:
        """A folder with a DICOM file among its first files."""
        from medseg_nca.io.dicom.files.reader import looks_like_dicom

        return path.is_dir() and any(looks_like_dicom(file) for file in _first_files(path))

    def open(self, path: Path) -> DataSet:
        """Read the headers of all files."""
        from medseg_nca.io.dicom.scan import scan

        found = scan(path)
        for problem in found.unreadable.values():
            log.warning("File left out: %s", problem.message)
        volumes, dims = _volumes(found)
        names = case_names(volumes)
        order = [
            (series.uid, stack.name)
            for _, (series, stack) in sorted(
                zip(names, volumes, strict=True), key=lambda pair: pair[0]
            )
            if stack is not None
        ]
        labels, table, legends = _labels(found, order)
        cases = [
            Case(
                id=name,
                images=_files(series, stack),
                label=labels.get((series.uid, stack.name if stack else "")),
                patient=patient_name(series),
            )
            for name, (series, stack) in zip(names, volumes, strict=True)
        ]
        if not cases:
            raise DataError(
                f"{path}: holds no DICOM image.",
                hint=f"See what there is: medseg-nca dicom scan {path}",
            )
        cases = [
            replace(case, segments=legends.get(case.label)) if case.label else case
            for case in cases
        ]
        channels = _channels(volumes) if dims == 3 else names_for(look(cases)[1], dims)
        return DataSet(
            name=path.resolve().name,
            root=path,
            format="dicom",
            dims=3 if dims == 3 else 2,
            channels=channels,
            cases=sorted_cases(cases, path),
            labels=table,
            modality=modality_of(channels),
        )


ADAPTER = Dicom()


def case_names(volumes: Iterable[tuple[Series, Stack | None]]) -> list[str]:
    """Names for cases, which do not depend on the order of the volumes.

    ``<patient>_<series number>``, and the name of the stack if the series has several; equal ones
    get a part of the hashed SeriesInstanceUID.
    """
    volumes = list(volumes)
    plain = [_name(series, stack) for series, stack in volumes]
    counts = Counter(name.casefold() for name in plain)
    return [
        f"{name}_{_short(series.uid)}" if counts[name.casefold()] > 1 else name
        for name, (series, _) in zip(plain, volumes, strict=True)
    ]


def patient_name(series: Series) -> str:
    """The PatientID with safe characters; where there is none, a name for the study."""
    text = series.patient_id.strip()
    return _safe(text) if text else f"unknown-{_short(series.study_uid)}"


def _name(series: Series, stack: Stack | None) -> str:
    number = series.tags.get("SeriesNumber", "").strip() or _short(series.uid)
    name = f"{patient_name(series)}_{_safe(number)}"
    return f"{name}_{_safe(stack.name)}" if stack is not None and stack.name else name


def _safe(text: str) -> str:
    """A text as a part of a file's name, short enough for the 255 bytes of file systems."""
    return safe_id(text if len(text) <= MOST_LETTERS else f"{text[:40]}-{_short(text)}")


def _short(uid: str) -> str:
    return hashlib.sha256(uid.encode()).hexdigest()[:8]


def _first_files(folder: Path) -> Iterator[Path]:
    """Some files of a tree, without listing all of it."""
    seen = 0
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if seen == MOST_FILES:
                return
            seen += 1
            yield Path(parent) / name


def _volumes(found: Scan) -> tuple[list[tuple[Series, Stack | None]], int]:
    """The volumes, and the series that are none; pictures only where there is no volume."""
    images = [series for series in found.series if series.kind == "image"]
    stacks = [(series, stack) for series in images for stack in series.stacks]
    for series in images:
        for note in series.doubts:
            log.warning("%s: %s", series.files[0].parent, note.message)
    dims = 3 if any(len(stack.shape) == 3 for _, stack in stacks) else 2
    pictures = sum(len(stack.shape) < dims for _, stack in stacks)
    if pictures:
        log.warning("%s: %d pictures are left out among volumes.", found.root, pictures)
    volumes: list[tuple[Series, Stack | None]] = [
        (series, stack) for series, stack in stacks if len(stack.shape) == dims
    ]
    broken = [series for series in images if series.refused or not series.stacks]
    return volumes + [(series, None) for series in broken], dims


def _files(series: Series, stack: Stack | None) -> tuple[Path, ...]:
    if stack is None:
        return (*series.files, *series.damaged)
    return tuple(dict.fromkeys(plane.path for plane in stack.planes))


def _labels(
    found: Scan, order: Sequence[tuple[str, str]]
) -> tuple[dict[tuple[str, str], Path], LabelTable | None, dict[Path, Legend]]:
    """The label file of each volume, the table of all, and what numbers the segments of each.

    ``order`` lists series and stack of the cases as they are sorted.
    """
    from medseg_nca.io.dicom.annotations.assign import assign
    from medseg_nca.io.dicom.annotations.legend import make_legend

    assigned = assign(found)
    for problem in assigned.refused.values():
        log.warning("Annotation left out: %s", problem.message)
    concepts = _concepts(assigned.by_stack[key] for key in order if key in assigned.by_stack)
    labels = {
        key: group[0].path
        for key, group in assigned.by_stack.items()
        if group and group[0].path in concepts
    }
    if not any(concepts.values()):
        return labels, None, {}
    legend = make_legend(concepts.values())
    for note in legend.notes:
        log.warning("%s", note.message)
    return labels, legend.table, {path: legend.part(own) for path, own in concepts.items()}


def _concepts(groups: Iterable[Sequence[Annotation]]) -> Mapping[Path, tuple[Concept, ...]]:
    """What the segments of the first object of each volume are called."""
    from medseg_nca.io.dicom.annotations.assign import concepts_of
    from medseg_nca.io.dicom.problems import DicomError

    concepts: dict[Path, tuple[Concept, ...]] = {}
    for group in groups:
        first = group[0]
        if len(group) > 1:
            log.warning(
                "%s: is the first of %d annotations of one image; the others are left out. "
                "`medseg-nca dicom import` takes all.", first.path, len(group),
            )  # fmt: skip
        try:
            concepts.setdefault(first.path, concepts_of(first.path, first.kind))
        except DicomError as error:
            log.warning("Annotation left out: %s", error.message)
    return concepts


def _channels(volumes: Sequence[tuple[Series, Stack | None]]) -> tuple[str, ...]:
    modalities = {series.tags.get("Modality", "") for series, stack in volumes if stack}
    name = modalities.pop() if len(modalities) == 1 else MIXED
    return (CHANNELS.get(name, name) or "unknown",)
