"""What the adapters share: safe names and paths, tables read from JSON, a look at a file."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, Literal, Protocol, TypeVar

from pydantic import ValidationError

from medseg_nca.config import Label, LabelTable
from medseg_nca.datasets.base import Case
from medseg_nca.errors import DataError, MedsegError

BACKGROUND = "background"
COLOURS = ("red", "green", "blue")
UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
MRI = re.compile(r"(MRI?|FLAIR|T1.*|T2.*|PD.*|ADC|DWI|SWI)", re.IGNORECASE)


def safe_id(text: str) -> str:
    """Return ``text`` with only A-Z a-z 0-9 . _ - left, so that it can be used as a file name."""
    name = UNSAFE.sub("_", text)
    return name if name and name[0] not in ".-" else f"_{name[1:]}"


def inside(root: Path, entry: object, source: Path) -> Path:
    """Return the path of an entry of a list of files, which may not lead out of ``root``.

    Args:
        root: the data set's folder.
        entry: what the list says, relative to ``root``.
        source: the list, for the message.

    Raises:
        DataError: if the entry is no text, is absolute or climbs out of the folder.
    """
    if not isinstance(entry, str) or not entry.strip():
        raise DataError(f"{source}: {entry!r} is not the name of a file.")
    path = PurePosixPath(entry)
    if path.is_absolute() or PureWindowsPath(entry).drive or ".." in path.parts:
        raise DataError(
            f"{source}: the entry {entry!r} leads out of the data set's folder.",
            hint="Name files relative to the folder; a datalist may name files anywhere.",
        )
    return root / path


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        DataError: if it is missing or not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}).") from error
    except ValueError as error:
        raise DataError(f"{path}: is not valid JSON ({error}).") from error


def read_json_object(path: Path) -> dict[str, Any]:
    """Read a JSON file that must hold an object.

    Raises:
        DataError: if it is missing, not JSON or something else.
    """
    tree = read_json(path)
    if not isinstance(tree, dict):
        raise DataError(f"{path}: must hold a JSON object, not a {type(tree).__name__}.")
    return tree


def label_table(
    entries: object, source: Path, order: Sequence[int] | None = None
) -> LabelTable | None:
    """Read a table of labels, ``{"1": "liver"}`` or ``{"liver": 1}``; background (0) is left out.

    A label with a list of numbers (``{"whole": [1, 2]}``) is a region and makes the table
    multi-label; ``order`` is then nnU-Net's ``regions_class_order``, the numbers that are written.

    Returns:
        The table, or None if there is no label but the background.

    Raises:
        DataError: if the table makes no sense.
    """
    if not isinstance(entries, Mapping):
        raise DataError(f"{source}: 'labels' must be a mapping of names and numbers.")
    pairs = [_name_and_values(key, value, source) for key, value in entries.items()]
    pairs = [(name, values) for name, values in pairs if values != (0,) and name != BACKGROUND]
    if not pairs:
        return None
    regions = any(len(values) > 1 for _, values in pairs)
    written: list[int | None] = [None] * len(pairs)
    if regions and order is not None:
        if len(order) != len(pairs):
            raise DataError(f"{source}: regions_class_order must have {len(pairs)} numbers.")
        written = list(order)
    try:
        labels = [
            Label(name=name, values=values, write=number)
            for (name, values), number in zip(pairs, written, strict=True)
        ]
        return LabelTable(labels=tuple(labels), multi_label=regions)
    except ValidationError as error:
        reasons = [detail["msg"].removeprefix("Value error, ") for detail in error.errors()]
        message = f"{source}: the labels make no sense: {'; '.join(reasons)}."
        raise DataError(message) from error


def _name_and_values(key: object, value: object, source: Path) -> tuple[str, tuple[int, ...]]:
    """One entry, whichever way round it is written."""
    if isinstance(value, str):
        key, value = value, key
    numbers = value if isinstance(value, list | tuple) else (value,)
    try:
        values = tuple(int(str(number)) for number in numbers)
    except ValueError:
        raise DataError(
            f"{source}: the label {key!r} must have a whole number, not {value!r}."
        ) from None
    return str(key), values


def channel_names(entries: object, source: Path) -> tuple[str, ...]:
    """Read ``{"0": "T1", "1": "T2"}`` (or a list) in channel order.

    Raises:
        DataError: if the channels are not numbered from 0 on.
    """
    if isinstance(entries, list | tuple):
        entries = dict(enumerate(entries))
    if not isinstance(entries, Mapping) or not entries:
        raise DataError(f"{source}: the channels must be numbered names, like {{'0': 'MRI'}}.")
    named = {str(key): str(name) for key, name in entries.items()}
    expected = [str(i) for i in range(len(named))]
    if set(named) != set(expected):
        raise DataError(f"{source}: channels must be numbered 0, 1, ..., not {sorted(named)}.")
    return tuple(named[key] for key in expected)


def modality_of(channels: Sequence[str]) -> str:
    """Return "CT", "MRI" or "unknown" from the names of the channels."""
    if all(name.strip().upper() == "CT" for name in channels):
        return "CT"
    return "MRI" if any(MRI.fullmatch(name.strip()) for name in channels) else "unknown"


def look(cases: Sequence[Case]) -> tuple[Literal[2, 3], int]:
    """Return (spatial axes, channels) of the first case that can be read.

    Of NIfTI and ITK files the header says it, and no voxels are read.

    Raises:
        ImageError: if no case can be read: the fault of the first.
    """
    from medseg_nca.io.peek import peek
    from medseg_nca.io.read import read_image

    first: MedsegError | None = None
    for case in cases:
        extent = peek(case.images)
        if extent is not None:
            return (2 if len(extent.shape) == 2 else 3), extent.channels
        try:
            volume = read_image(case.images)
        except MedsegError as error:
            first = first or error
            continue
        return (2 if volume.dims == 2 else 3), volume.array.shape[0]
    raise first or DataError("There is no case to look at.")


def names_for(count: int, dims: int) -> tuple[str, ...]:
    """Channel names for a layout that has none: colours for 2D RGB, else ``image`` or numbers."""
    if count == 1:
        return ("image",)
    if dims == 2 and count == len(COLOURS):
        return COLOURS
    return tuple(f"channel_{i}" for i in range(count))


class _Named(Protocol):
    @property
    def id(self) -> str: ...


Named = TypeVar("Named", bound=_Named)


def sorted_cases(cases: Iterable[Named], source: Path) -> tuple[Named, ...]:
    """Sort by id.

    Raises:
        DataError: if two cases have one id.
    """
    found = sorted(cases, key=lambda case: case.id)
    twice = [name for name, count in Counter(case.id for case in found).items() if count > 1]
    if twice:
        raise DataError(
            f"{source}: {len(twice)} case id(s) occur more than once, for example {twice[0]!r}.",
            hint="Ids come from the file names, with every odd character made '_'; rename a file.",
        )
    return tuple(found)


def patient_pattern(text: str | None, source: Path) -> re.Pattern[str] | None:
    """Compile what finds the patient in a file's name: a regular expression with one group.

    Args:
        text: the expression; None if names say nothing of patients.
        source: file that holds it, for the message.

    Raises:
        DataError: if it is no regular expression, or has not one group.
    """
    if text is None:
        return None
    try:
        pattern = re.compile(text)
    except re.error as error:
        message = f"{source}: patient: {text!r} is no regular expression ({error})."
        raise DataError(message) from error
    if pattern.groups != 1:
        raise DataError(f"{source}: patient: {text!r} must have one group (...).")
    return pattern


def patient_of(pattern: re.Pattern[str] | None, name: str) -> str | None:
    """Return the patient that a name tells; None if it tells none."""
    match = pattern.search(name) if pattern else None
    return match[1] if match else None
