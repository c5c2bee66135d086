"""From the planes of a series to its volumes, or the reasons why they make none."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from medseg_nca.io.dicom.problems import DicomError
from medseg_nca.io.dicom.records import Plane, Problem, Stack
from medseg_nca.io.dicom.series.counts import compare_counts, missing_parts, uncertain_parts
from medseg_nca.io.dicom.series.geometry import (
    SAME_SPACING,
    UNKNOWN_THICKNESS,
    build_stack,
    directions,
    orientation_groups,
    orientation_name,
    picture,
    place,
    same_position_groups,
)
from medseg_nca.io.dicom.series.instances import Instance
from medseg_nca.io.dicom.series.meaning import mixed_meanings
from medseg_nca.io.dicom.series.split import BY_NUMBER, safe_labels, split
from medseg_nca.io.dicom.series.values import Value

# A message names this many files, positions or orientations, and counts the others.
_NAMED = 4
# The cosine of the angle from which on planes cross, and the planes that others can cross.
_CROSSED = 0.5
_LEAST_OF_A_VOLUME = 3


@dataclass
class Sorted:
    """What became of the planes of one series."""

    stacks: list[Stack] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    notes: list[Problem] = field(default_factory=list)

    def refuse(self, kind: str, message: str) -> None:
        """Add a problem."""
        self.problems.append(Problem(kind, message))

    def note(self, kind: str, message: str) -> None:
        """Add a note."""
        self.notes.append(Problem(kind, message))


def sort_planes(instances: Sequence[Instance]) -> Sorted:
    """Make volumes and pictures of the image instances of one series.

    Slices are ordered by their place alone. Planes of several orientations are refused, unless
    the file says by StackID that they are stacks of their own (PS3.3 C.7.6.16.2.2). A picture
    without a place in the patient (ultrasound, secondary capture, X-ray) is a stack of its own,
    and so is each frame of a film.

    Args:
        instances: of one series, without copies, in a fixed order.
    """
    done = Sorted()
    usable = _usable(instances, done)
    pictures = [instance for instance in usable if _is_picture(instance)]
    slices = [instance for instance in usable if not _is_picture(instance)]
    parts = [instance.part for instance in usable if instance.part]
    missing, uncertain = missing_parts(parts), uncertain_parts(parts)
    if missing:
        done.problems.append(missing)
        return done
    if uncertain:
        done.notes.append(uncertain)
    if slices and not done.problems:
        _add_volumes(slices, done, beside_pictures=bool(pictures))
        declared = next((i.declared for i in instances if i.declared), {})
        if not done.problems:
            done.notes += compare_counts(declared, done.stacks)
    _add_pictures(pictures, done, alone=not slices)
    return done


def _is_picture(instance: Instance) -> bool:
    return not instance.cross_section and not any(map(_placed, instance.planes))


def _usable(instances: Sequence[Instance], done: Sorted) -> list[Instance]:
    """Set apart what is no slice of a volume: broken files, mosaics, localizers."""
    found: list[Instance] = []
    localizers: list[Instance] = []
    problems: list[Problem] = []
    for instance in instances:
        if instance.problems:
            problems += instance.problems[:1]
        elif "LOCALIZER" in instance.image_type:
            localizers.append(instance)
        else:
            found.append(instance)
    done.problems += _one_of_each_kind(problems)
    done.notes += _one_of_each_kind([note for i in instances for note in i.notes])
    if localizers:
        planes = _planes(localizers)
        text = f"{_count(planes, 'localizer')} (ImageType) at {_some(planes, place)}"
        if found:
            done.note("localizer", f"{text} left out.")
        else:
            done.refuse("localizer", f"is no volume but {text}.")
    return found


def _add_volumes(instances: Sequence[Instance], done: Sorted, *, beside_pictures: bool) -> None:
    planes = _planes(instances)
    lost = [plane for plane in planes if not _placed(plane)]
    if lost:
        done.refuse(
            "no-position",
            f"{_count(lost, 'plane')} of {len(planes)} without position, orientation or size of "
            f"a pixel: {_some(lost, lambda plane: str(plane.path))}.",
        )
        return
    frames = {i.frame_of_reference_uid for i in instances if i.frame_of_reference_uid}
    if len(frames) > 1:
        done.refuse(
            "mixed-frames-of-reference",
            f"{len(frames)} frames of reference: the positions cannot be compared.",
        )
        return
    stacks = _by_stack_id(planes)
    for name, stack_planes in stacks:
        groups = _without_overviews(orientation_groups(stack_planes), done)
        if len(groups) > 1:
            _refuse_orientations(groups, done)
            continue
        if not _is_uniform(groups[0], done):
            continue
        _add_parts(name, groups[0], done, beside_pictures=beside_pictures)


def _without_overviews(groups: list[list[Plane]], done: Sorted) -> list[list[Plane]]:
    """Leave out single planes that cross a volume, as scouts do that ImageType does not name."""
    volume = max(groups, key=len)
    crossing = [group for group in groups if group is not volume]
    if len(volume) < _LEAST_OF_A_VOLUME or any(len(group) > 1 for group in crossing):
        return groups
    normal = directions(volume)[2]
    if any(abs(directions(group)[2] @ normal) > _CROSSED for group in crossing):
        return groups
    if crossing:
        planes = [plane for group in crossing for plane in group]
        text = f"{_count(planes, 'plane')} across the others at {_some(planes, place)} left out."
        done.note("localizer", text)
    return [volume]


def _by_stack_id(planes: Sequence[Plane]) -> list[tuple[str, list[Plane]]]:
    """Stacks that the files name, where every plane is in one; else all planes together.

    Each has a name; "" if it is the only one. Stacks that lie between each other are packages, in
    which one volume was acquired.
    """
    found: dict[Value | None, list[Plane]] = {}
    for plane in planes:
        found.setdefault(plane.keys.get("stack"), []).append(plane)
    # Some writers number the frames with it; a stack of one plane is no volume.
    alone = len(found) == 1 or all(len(stack) == 1 for stack in found.values())
    if None in found or alone or _are_packages(planes):
        return [("", list(planes))]
    return list(zip(safe_labels("stack", list(found)), found.values(), strict=True))


def _are_packages(planes: Sequence[Plane]) -> bool:
    """Whether the stacks of parallel planes reach into each other and make one regular grid."""
    if len(orientation_groups(planes)) > 1 or len({plane.shape for plane in planes}) > 1:
        return False
    places = same_position_groups(planes)
    stacks = [{plane.keys["stack"] for plane in group} for group in places]
    if any(len(found) > 1 for found in stacks):
        return False
    changes = sum(one != other for one, other in pairwise(stacks))
    if changes < len({plane.keys["stack"] for plane in planes}):
        return False
    try:
        build_stack("", [group[0] for group in places])
    except DicomError:
        return False
    return True


def _add_parts(
    stack_name: str, planes: Sequence[Plane], done: Sorted, *, beside_pictures: bool
) -> None:
    parts = split(planes)
    if len(planes) > 1 and len({_rounded(plane) for plane in planes}) == 1:
        done.refuse(
            "single-position",
            f"all {len(planes)} planes lie at one position, {place(planes[0])} (LPS): a film or a "
            "monitoring scan of one slice, no volume.",
        )
        return
    if any(BY_NUMBER in part.name.split("_")[-1] for part in parts):
        done.note("by-number", f"{_of(stack_name)}volumes are told apart by InstanceNumber alone.")
    for part in parts:
        name = "_".join(filter(None, (stack_name, part.name)))
        if not name and beside_pictures:
            name = "volume"
        if part.repeated:
            done.refuse("repeated-positions", _of(name) + _repeats(part.repeated))
            continue
        mixed = mixed_meanings(part.planes)
        if mixed:
            done.refuse("mixed-values", f"{_of(name)}{mixed}.")
            continue
        try:
            stack = build_stack(name, part.planes)
        except DicomError as error:
            done.refuse(error.problem.kind, _of(name) + error.problem.message)
            continue
        done.stacks.append(stack)
        if len(stack.planes) == 1 and stack.planes[0].thickness is None:
            done.note(
                "no-thickness",
                f"{_of(name)}one slice without SpacingBetweenSlices and SliceThickness: "
                f"{UNKNOWN_THICKNESS:g} mm are assumed, volumes in mL mean nothing.",
            )


def _add_pictures(instances: Sequence[Instance], done: Sorted, *, alone: bool) -> None:
    """Each picture, and each frame of a film, is a 2D image."""
    numbers = [i.planes[0].instance_number for i in instances if i.planes]
    by_number = None not in numbers and len(set(numbers)) == len(numbers)
    only = alone and len(_planes(instances)) == 1
    for count, instance in enumerate(instances, 1):
        number = instance.planes[0].instance_number if by_number and instance.planes else count
        for plane in instance.planes:
            name = f"image-{number}"
            if plane.frame is not None:
                number_of_film = "" if len(instances) == 1 else f"film-{count}_"
                name = f"{number_of_film}frame-{plane.frame + 1}"
            done.stacks.append(picture("" if only else name, plane))
    unknown = [plane for plane in _planes(instances) if plane.spacing is None]
    if unknown:
        done.note("no-spacing", f"{_count(unknown, 'picture')} without size of a pixel: 1 mm.")


def _is_uniform(planes: Sequence[Plane], done: Sorted) -> bool:
    """Refuse planes of several sizes."""
    shapes = {plane.shape for plane in planes}
    if len(shapes) > 1:
        sizes = ", ".join(f"{rows} x {columns}" for rows, columns in sorted(shapes)[:_NAMED])
        done.refuse("mixed-shapes", f"planes of {len(shapes)} sizes (rows x columns): {sizes}.")
        return False
    spacings = np.array([plane.spacing for plane in planes], dtype=np.float64)
    if (np.ptp(spacings, axis=0) > SAME_SPACING * spacings.min(axis=0)).any():
        found = sorted({(round(a, 5), round(b, 5)) for a, b in spacings.tolist()})
        texts = ", ".join(f"{a:g} x {b:g}" for a, b in found[:_NAMED])
        done.refuse("mixed-spacing", f"planes of {len(found)} pixel sizes (mm): {texts}.")
        return False
    return True


def _refuse_orientations(groups: Sequence[Sequence[Plane]], done: Sorted) -> None:
    """Name the orientations, and where their planes lie."""
    texts = [
        f"{_count(group, f'{orientation_name(group[0])} plane')} at {_some(group, place)}"
        for group in groups[:_NAMED]
    ]
    more = f", and {len(groups) - _NAMED} more orientations" if len(groups) > _NAMED else ""
    where = f"{'; '.join(texts)}{more} (positions LPS)"
    normals = [directions(group)[2] for group in groups]
    crossed = all(abs(a @ b) < _CROSSED for k, a in enumerate(normals) for b in normals[:k])
    if len(groups) <= 3 and crossed and all(len(group) == 1 for group in groups):
        done.refuse("localizer", f"is no volume but a localizer: {where}.")
        return
    least = max(float(np.abs(normals[0] - normal).max()) for normal in normals)
    done.refuse(
        "mixed-orientations",
        f"{len(groups)} orientations, up to {least:.2g} apart in the normal: {where}.",
    )


def _one_of_each_kind(problems: Sequence[Problem]) -> list[Problem]:
    """The first of each kind, with the number of the others: files of a series are alike."""
    kinds: dict[str, list[Problem]] = {}
    for problem in problems:
        kinds.setdefault(problem.kind, []).append(problem)
    return [
        Problem(kind, f"{same[0].message} ({len(same) - 1} more files)")
        if len(same) > 1
        else same[0]
        for kind, same in kinds.items()
    ]


def _repeats(repeated: Sequence[Sequence[Plane]]) -> str:
    firsts = [group[0] for group in repeated]
    most = max(len(group) for group in repeated)
    return (
        f"{len(repeated)} {'position holds' if len(repeated) == 1 else 'positions hold'} up to "
        f"{most} planes, and no attribute tells them apart: {_some(firsts, place)} (LPS)."
    )


def _placed(plane: Plane) -> bool:
    return None not in (plane.position, plane.row, plane.column, plane.spacing)


def _planes(instances: Iterable[Instance]) -> list[Plane]:
    return [plane for instance in instances for plane in instance.planes]


def _rounded(plane: Plane) -> tuple[float, ...]:
    return tuple(round(value, 2) + 0.0 for value in plane.position or ())


def _of(name: str) -> str:
    return f"{name}: " if name else ""


def _count(planes: Sequence[Plane], noun: str) -> str:
    return f"{len(planes)} {noun}{'' if len(planes) == 1 else 's'}"


def _some(planes: Sequence[Plane], text: Callable[[Plane], str]) -> str:
    more = f" and {len(planes) - _NAMED} more" if len(planes) > _NAMED else ""
    return ", ".join(text(plane) for plane in planes[:_NAMED]) + more
