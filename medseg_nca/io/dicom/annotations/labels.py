"""Segments of DICOM objects, one label table for all cases, and label maps made from segments."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from medseg_nca.config.labels import Code, Label, LabelTable
from medseg_nca.errors import DataError
from medseg_nca.io.dicom.annotations.concepts import Concept, clean_name, side
from medseg_nca.io.dicom.annotations.packed import Packed
from medseg_nca.io.dicom.records import Problem
from medseg_nca.io.volume import OnGrid, Volume

_BATCH = 2**22

OverlapRule = Literal["last", "smallest", "refuse"]


@dataclass(frozen=True)
class Segment:
    """One segment of a SEG or one ROI of an RTSTRUCT, on the grid of an image.

    Attributes:
        number: SegmentNumber or ROINumber.
        name: SegmentLabel or ROIName, cleaned; never empty.
        code: what it is (the property type, not its category); None where the object says nothing.
        shape: of the image, ``(x, y, z)`` or ``(x, y)``.
        packed: the mask, held small.
        algorithm: how it was made, in the object's word (MANUAL, SEMIAUTOMATIC, AUTOMATIC), or "".
        modifiers: codes that refine ``code``, for example the side.
    """

    number: int
    name: str
    code: Code | None
    shape: tuple[int, ...]
    packed: Packed
    algorithm: str = ""
    modifiers: tuple[Code, ...] = ()

    @classmethod
    def from_mask(
        cls, number: int, name: str, code: Code | None, mask: NDArray[Any], **more: Any
    ) -> Self:
        """Make a segment of a whole mask, ``(x, y, z)`` or ``(x, y)`` bool."""
        return cls(number, name, code, mask.shape, Packed.pack(mask), **more)

    @property
    def mask(self) -> NDArray[np.bool_]:
        """The whole mask, bool, of ``shape``; made anew at each call."""
        whole = np.zeros(self.shape, bool)
        self.packed.paint(whole, True)
        return whole

    @property
    def voxels(self) -> int:
        """How many voxels belong to it."""
        return self.packed.voxels

    @property
    def concept(self) -> Concept:
        """What :func:`merge_tables` needs to know of it."""
        return Concept(self.name, self.code, self.modifiers)


@dataclass(frozen=True)
class Segments:
    """All segments of one object, and what its reader has to say about them."""

    segments: tuple[Segment, ...]
    notes: tuple[Problem, ...] = ()

    def __iter__(self) -> Iterator[Segment]:
        return iter(self.segments)

    def __len__(self) -> int:
        return len(self.segments)


@dataclass(frozen=True)
class Overlap:
    """How many voxels of ``label`` carry ``covered_by`` in the label map instead."""

    label: str
    covered_by: str
    voxels: int


@dataclass(frozen=True)
class Composed:
    """A label map, ``(1, *shape)`` of the smallest unsigned dtype, and what was covered in it."""

    label_map: Volume
    overlaps: tuple[Overlap, ...]

    @property
    def overlapping_voxels(self) -> int:
        """How many times a voxel of one label was given to another."""
        return sum(overlap.voxels for overlap in self.overlaps)


def compose(
    segments: Iterable[Segment], table: LabelTable, image: OnGrid, *, overlap: OverlapRule = "last"
) -> Composed:
    """Make one label map of segments, which may overlap.

    Two segments of the same label are united, which is no overlap.

    Args:
        segments: on the grid of ``image``.
        table: their labels, from :func:`merge_tables`; a label's first value is written.
        image: gives the grid.
        overlap: who gets a voxel of several labels. ``last``: the higher segment number.
            ``smallest``: the segment with fewer voxels, of equal ones the higher number.
            ``refuse``: nobody, it is an error.

    Raises:
        DataError: if a segment has no label in the table or lies on another grid; if segments
            overlap and that is refused.
    """
    ordered = sorted(segments, key=lambda segment: segment.number)
    if overlap == "smallest":
        ordered.sort(key=lambda segment: -segment.voxels)
    largest = max(label.values[0] for label in table.labels)
    result = np.zeros(image.shape, np.min_scalar_type(largest))
    names = {label.values[0]: label.name for label in table.labels}
    covered: Counter[tuple[str, str]] = Counter()
    for segment in ordered:
        if segment.shape != image.shape:
            raise DataError(
                f"Segment {segment.number} has the shape {segment.shape}, the image {image.shape}.",
                hint="Read the segments on the grid of this image.",
            )
        label = find_label(segment.concept, table)
        if label is None:
            raise DataError(
                f"Segment {segment.number} has no label in the table.",
                hint="Make the table with merge_tables from the segments of all cases.",
            )
        for value, count in _paint(result, segment.packed, label.values[0]).items():
            covered[names[value], label.name] += count
    overlaps = tuple(Overlap(*pair, count) for pair, count in covered.items())
    if overlap == "refuse" and overlaps:
        raise DataError(_overlap_message(overlaps), hint="Allow overlaps: last or smallest.")
    return Composed(Volume(result[np.newaxis], image.affine, image.sources), overlaps)


def merge_tables(cases: Iterable[Iterable[tuple[Any, ...]]]) -> LabelTable:
    """Make one label table for a data set.

    Segments of all cases are the same label when they have the same code and modifier. A code that
    does not tell segments apart counts together with the name: one that has two names in one case,
    that is used for a left and a right side, or that has several modifiers. Segments without a
    code go by their name, without regard to case, and join the only coded label of that name.
    Labels are numbered from 1 as they first appear; names that would be equal get their code in
    brackets.

    Args:
        cases: for each case its segments' :class:`Concept`, or pairs ``(name, code)``.

    Raises:
        DataError: if there is no segment at all.
    """
    concepts, shared = _collect(cases)
    labels: dict[tuple[str, ...], Concept] = {}
    for concept in concepts:
        if concept.code is not None:
            labels.setdefault(_key(concept, shared), concept)
    names = Counter(concept.name.casefold() for concept in labels.values())
    for concept in concepts:
        if concept.code is None and names[concept.name.casefold()] != 1:
            labels.setdefault(_key(concept, shared), concept)
    if not labels:
        raise DataError("There are no segments, so there is no label table.")
    order = {concept: index for index, concept in enumerate(concepts)}
    chosen = sorted(labels.values(), key=lambda concept: order[concept])
    return LabelTable(
        labels=tuple(
            Label(name=name, values=(value,), code=concept.code, modifier=_modifier(concept))
            for value, (name, concept) in enumerate(
                zip(_unique_names(chosen), chosen, strict=True), start=1
            )
        )
    )


def find_label(concept: Concept, table: LabelTable) -> Label | None:
    """Return the label of a segment in a table of :func:`merge_tables`, or None."""
    name = clean_name(concept.name).casefold()
    if concept.code is None:
        same = [label for label in table.labels if label.name.casefold() == name]
        return next((label for label in same if label.code is None), same[0] if same else None)
    wanted = _identity(concept)
    coded = [
        label
        for label in table.labels
        if label.code
        and _identity(Concept("", label.code, (label.modifier,) if label.modifier else ()))
        == wanted
    ]
    for known_as in (_with_codes(concept._replace(name=name)).casefold(), name):
        for label in coded:
            if label.name.casefold() == known_as:
                return label
    return coded[0] if len(coded) == 1 else None


def _collect(
    cases: Iterable[Iterable[tuple[Any, ...]]],
) -> tuple[list[Concept], set[tuple[str, ...]]]:
    """All concepts with clean names as they first appear, and the codes that several share."""
    concepts: dict[Concept, None] = {}
    shared: set[tuple[str, ...]] = set()
    sides: dict[tuple[str, ...], str] = {}
    for case in cases:
        names: dict[tuple[str, ...], str] = {}
        for item in case:
            given = Concept(*item)
            concept = given._replace(name=clean_name(given.name))
            concepts.setdefault(concept)
            if concept.code is None:
                continue
            identity, name = _identity(concept), concept.name.casefold()
            same_name = names.setdefault(identity, name) == name
            same_side = sides.setdefault(identity, side(name)) == side(name)
            if len(concept.modifiers) > 1 or not (same_name and same_side):
                shared.add(identity)
    return list(concepts), shared


def _identity(concept: Concept) -> tuple[str, ...]:
    """What a coded segment is, by scheme and value; the meaning is free text."""
    codes = [code for code in (concept.code, _modifier(concept)) if code is not None]
    return tuple(part for code in codes for part in (code.scheme, code.value))


def _modifier(concept: Concept) -> Code | None:
    """The modifier that a label can hold; a label has one or none."""
    return concept.modifiers[0] if len(concept.modifiers) == 1 else None


def _key(concept: Concept, shared: set[tuple[str, ...]]) -> tuple[str, ...]:
    name = concept.name.casefold()
    if concept.code is None:
        return (name,)
    identity = _identity(concept)
    return (_with_codes(concept).casefold(), *identity) if identity in shared else identity


def _with_codes(concept: Concept) -> str:
    codes = [code.value for code in (concept.code, *concept.modifiers) if code is not None]
    return f"{concept.name} ({', '.join(codes)})"


def _unique_names(concepts: Sequence[Concept]) -> list[str]:
    """Labels without a code keep their names, so they are found by them."""
    names = Counter(concept.name.casefold() for concept in concepts)
    taken = {concept.name.casefold() for concept in concepts if concept.code is None}
    result = []
    for concept in concepts:
        name = concept.name
        if concept.code is not None and (names[name.casefold()] > 1 or name.casefold() in taken):
            name = base = _with_codes(concept)
            number = 2
            while name.casefold() in taken:
                name, number = f"{base} {number}", number + 1
        taken.add(name.casefold())
        result.append(name)
    return result


def _paint(result: NDArray[Any], packed: Packed, value: int) -> dict[int, int]:
    """Give a segment's voxels to a label; return how many it took from which other label."""
    if not packed.voxels:
        return {}
    region, part = result[packed.box], packed.part()
    before = region[part]
    region[part] = value
    taken: Counter[int] = Counter()
    for start in range(0, len(before), _BATCH):  # counting takes 8 bytes a voxel
        counts = np.bincount(before[start : start + _BATCH])
        taken.update({int(old): int(counts[old]) for old in np.flatnonzero(counts)})
    return {old: count for old, count in taken.items() if old not in (0, value)}


def _overlap_message(overlaps: Sequence[Overlap]) -> str:
    first = max(overlaps, key=lambda overlap: overlap.voxels)
    more = f", and {len(overlaps) - 1} other pairs" if len(overlaps) > 1 else ""
    return (
        f"Segments overlap: {first.voxels} voxels of label {first.label!r} also belong to "
        f"{first.covered_by!r}{more}."
    )
