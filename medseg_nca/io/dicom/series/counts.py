"""What headers declare to be there, compared with what is there.

A series that lost its last slices, every second slice, or one file of several looks whole by its
geometry. Where the files themselves say that they are parts, it is refused; other counts are often
wrong, or count something else, so that they only make a note.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from medseg_nca.io.dicom.files.attributes import Attributes
from medseg_nca.io.dicom.records import Plane, Problem, Stack

# Counts of positions, of planes at each position, and of all planes of a series.
_POSITIONS = ("NumberOfSlices",)
_REPEATS = ("NumberOfTemporalPositions", "NumberOfTimeSlices", "CardiacNumberOfImages")
_PLANES = ("ImagesInAcquisition",)
_SPACING = "SpacingBetweenSlices"
_PRIVATE_POSITIONS = (
    (0x2001, "Philips Imaging DD 001", 0x18),
    (0x0021, "GEMS_RELA_01", 0x4F),
)
_SERIAL = ("echo-", "b-", "direction-", "phase-", "time-")
# SpacingBetweenSlices is rounded by some; a missing slice doubles the distance.
_OTHER_SPACING = 0.1


@dataclass(frozen=True)
class Concatenation:
    """Which part of one image, in several files, a file holds (PS3.3 C.7.6.16.2.2.4).

    Attributes:
        uid: ConcatenationUID, or where it is missing that of the whole image.
        number: InConcatenationNumber, from 1 on; None if the file does not say it.
        total: InConcatenationTotalNumber; None if the file does not say it.
        offset: ConcatenationFrameOffsetNumber: how many frames lie in the parts before.
        frames: how many it has.
    """

    uid: str
    number: int | None
    total: int | None
    offset: int | None
    frames: int


def concatenation_of(file: Attributes, frames: int) -> Concatenation | None:
    """The part that a file says it is; None if it is whole."""
    uid = file.text("ConcatenationUID") or file.text("SOPInstanceUIDOfConcatenationSource")
    if not uid:
        return None
    number, total, offset = (
        None if (value := file.number(keyword)) is None else int(value)
        for keyword in (
            "InConcatenationNumber",
            "InConcatenationTotalNumber",
            "ConcatenationFrameOffsetNumber",
        )
    )
    return Concatenation(uid, number, total, offset, frames)


def declared_counts(attributes: Attributes) -> dict[str, float]:
    """The counts that a header declares, by keyword; only those above 0."""
    names = (*_POSITIONS, *_REPEATS, *_PLANES, _SPACING)
    found = {name: attributes.number(name) for name in names}
    for group, creator, element in _PRIVATE_POSITIONS:
        values = attributes.private(group, creator, element)
        if values:
            found[f"{creator} ({group:04X},xx{element:02X})"] = values[0]
    return {name: abs(value) for name, value in found.items() if value}


def missing_parts(parts: Sequence[Concatenation]) -> Problem | None:
    """Why the parts of the concatenations of a series are not all of it."""
    by_uid: dict[str, list[Concatenation]] = {}
    for part in parts:
        by_uid.setdefault(part.uid, []).append(part)
    for group in by_uid.values():
        wrong = _wrong(sorted(group, key=lambda part: (part.number or 0, part.offset or 0)))
        if wrong:
            return Problem("incomplete-concatenation", f"one image in several files: {wrong}.")
    return None


def uncertain_parts(parts: Sequence[Concatenation]) -> Problem | None:
    """A note on images in several files of which none says how many there are."""
    whole = {part.uid for part in parts if part.total}
    parts = [part for part in parts if part.uid not in whole]
    if not parts:
        return None
    text = f"{len(parts)} files are parts of one image, and none says of how many"
    return Problem("fewer-images", f"{text} (InConcatenationTotalNumber): some may be missing.")


def _wrong(parts: Sequence[Concatenation]) -> str:
    total = max((part.total or 0 for part in parts), default=0)
    numbers = [part.number for part in parts if part.number is not None]
    if len(set(numbers)) < len(numbers):
        return "two files say that they are the same part"
    wanted = max([total, len(parts), *numbers])
    if len(parts) < wanted:
        there = ", ".join(map(str, numbers)) or str(len(parts))
        return f"{len(parts)} of {wanted} parts are there (number {there})"
    ends = 0
    for part in parts:
        if part.offset is not None and part.offset != ends:
            return f"a part starts with frame {part.offset + 1}, after {ends} frames"
        ends += part.frames
    return ""


def compare_counts(declared: Mapping[str, float], stacks: Sequence[Stack]) -> list[Problem]:
    """Notes on what seems to be missing; counts of less than is there say nothing."""
    volumes = [stack for stack in stacks if len(stack.shape) == 3]
    planes = [plane for stack in volumes for plane in stack.planes]
    if not planes:
        return []
    positions = max(len(stack.planes) for stack in volumes)
    there = {
        **dict.fromkeys(_REPEATS, (_most_at_one_position(planes), "planes at each position")),
        **dict.fromkeys(_PLANES, (len(planes), "planes")),
    }
    notes = []
    for name, count in declared.items():
        if name == _SPACING:
            continue
        found, noun = there.get(name, (positions, "positions"))
        if found < count:
            text = f"the header declares {count:g} ({name}), and there are {found} {noun}"
            notes.append(Problem("fewer-images", f"{text}: some may be missing."))
    return notes + _compare_spacing(declared, volumes) + _compare_volumes(volumes)


def _compare_volumes(volumes: Sequence[Stack]) -> list[Problem]:
    """Times, b-values and the like cover the same positions; maps and acquisitions need not."""
    serial = [stack for stack in volumes if stack.name.split("_")[-1].startswith(_SERIAL)]
    most = max((len(stack.planes) for stack in serial), default=0)
    less = [stack for stack in serial if len(stack.planes) < most]
    if not less:
        return []
    text = f"{less[0].name} has {len(less[0].planes)} planes"
    more = f" ({len(less) - 1} more volumes have less, too)" if len(less) > 1 else ""
    return [Problem("unequal-volumes", f"{text}, others of the series have {most}{more}.")]


def _compare_spacing(declared: Mapping[str, float], volumes: Sequence[Stack]) -> list[Problem]:
    largest = max(volumes, key=lambda stack: len(stack.planes))
    found = float((largest.affine[:3, 2] ** 2).sum() ** 0.5)
    wanted, source = declared.get(_SPACING), _SPACING
    if not wanted and len(volumes) == 1:
        wanted, source = _thickness_of_skipped(largest.planes, found), "SliceThickness"
    if not wanted or len(largest.planes) < 2 or found <= wanted * (1 + _OTHER_SPACING):
        return []
    text = f"the slices lie {found:.6g} mm apart, and {source} is {wanted:g}"
    return [Problem("wider-spacing", f"{text}: slices may be missing between them.")]


def _thickness_of_skipped(planes: Sequence[Plane], spacing: float) -> float | None:
    """The thickness, if the spacing is as many of it as the InstanceNumbers go on by."""
    thickness = planes[0].thickness
    numbers = [plane.instance_number for plane in planes]
    steps = {abs(b - a) for a, b in pairwise(numbers) if a is not None and b is not None}
    if not thickness or None in numbers or len(steps) != 1:
        return None
    step = steps.pop()
    near = abs(spacing / thickness - step) <= _OTHER_SPACING * step
    return thickness if step > 1 and near else None


def _most_at_one_position(planes: Sequence[Plane]) -> int:
    counts: dict[tuple[float, ...], int] = {}
    for plane in planes:
        place = tuple(round(value, 2) + 0.0 for value in plane.position or ())
        counts[place] = counts.get(place, 0) + 1
    return max(counts.values())
