"""A list of files: CSV (or TSV) with a header, or JSON, which may be MONAI's datalist.

CSV columns are ``image`` (or ``image_0``, ``image_1``, ... for channels in files of their own),
and optional ``label``, ``id``, ``patient``, ``site`` and ``split`` (train, val or test). JSON is a
list of such objects, or ``{"training": [...], "validation": [...], "testing": [...], "labels":
{...}, "modality": {...}}``. Names are relative to the list's folder, or absolute: who writes a list
says where the files lie.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from medseg_nca.datasets.base import Case, DataSet, Side
from medseg_nca.datasets.layout import (
    channel_names,
    label_table,
    look,
    modality_of,
    names_for,
    read_json,
    safe_id,
    sorted_cases,
)
from medseg_nca.errors import DataError
from medseg_nca.io.formats import image_suffix, stem
from medseg_nca.suggest import nearest

FILES = ("datalist.csv", "datalist.json", "datalist.tsv")
SUFFIXES = (".csv", ".tsv", ".json")
COLUMNS = ("image", "label", "id", "patient", "site", "split")
SIDES: dict[str, Side] = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
CHANNEL = re.compile(r"image_(\d+)")

Row = tuple[str, Mapping[str, Any]]


class Datalist:
    """See :class:`medseg_nca.datasets.find.Adapter`."""

    layout = "datalist.csv or .json with image, label and optional id, patient, site, split"
    rank = 40

    def recognises(self, path: Path) -> bool:
        """A folder with a datalist, or a .csv, .tsv or .json file."""
        if path.is_file():
            return path.suffix.lower() in SUFFIXES
        return any((path / name).is_file() for name in FILES)

    def open(self, path: Path) -> DataSet:
        """Read the list."""
        file = _file(path)
        head, rows = _read(file)
        cases = sorted_cases(_cases(rows, file), file)
        if not cases:
            raise DataError(f"{file}: lists no case.")
        dims, count = look(cases)
        named = head.get("channel_names", head.get("modality"))
        channels = channel_names(named, file) if named else names_for(count, dims)
        return DataSet(
            name=str(head.get("name") or file.resolve().parent.name),
            root=file.parent,
            format="datalist",
            dims=dims,
            channels=channels,
            cases=cases,
            labels=label_table(head["labels"], file) if head.get("labels") else None,
            modality=modality_of(channels),
            licence=head.get("licence") or head.get("license"),
            description=str(head.get("description", "")),
        )


ADAPTER = Datalist()


def _file(path: Path) -> Path:
    if path.is_file():
        return path
    found = next((path / name for name in FILES if (path / name).is_file()), None)
    if found is None:
        raise DataError(f"{path}: holds none of {', '.join(FILES)}.")
    return found


def _read(file: Path) -> tuple[Mapping[str, Any], list[Row]]:
    """Return what the list says of the whole data set, and its rows with where each stands."""
    if file.suffix.lower() != ".json":
        return {}, list(_csv_rows(file))
    tree = read_json(file)
    if isinstance(tree, list):
        tree = {"training": tree}
    if not isinstance(tree, dict):
        raise DataError(f"{file}: must hold a list of cases or an object of lists.")
    return tree, list(_json_rows(tree, file))


def _csv_rows(file: Path) -> Iterator[Row]:
    delimiter = "\t" if file.suffix.lower() == ".tsv" else ","
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream, delimiter=delimiter)
            fields = [(name or "").strip().lower() for name in reader.fieldnames or ()]
            _check_columns(fields, file)
            reader.fieldnames = fields
            for row in reader:
                if any(row.values()):
                    yield f"line {reader.line_num}", row
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{file}: is not a readable CSV file ({error}).") from error
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror}).") from error


def _check_columns(fields: list[str], file: Path) -> None:
    if "image" not in fields and not any(CHANNEL.fullmatch(name) for name in fields):
        guess = nearest("image", fields)
        raise DataError(
            f"{file}: has no column 'image'; its columns are {', '.join(fields) or 'none'}.",
            hint=f"Rename the column {guess!r}." if guess else f"Known: {', '.join(COLUMNS)}.",
        )


def _json_rows(tree: Mapping[str, Any], file: Path) -> Iterator[Row]:
    """Rows of MONAI's sections; these are sides only where there is a validation section."""
    sided = bool(tree.get("validation"))
    for section, entries in tree.items():
        if section not in SIDES:
            continue
        if not isinstance(entries, list):
            raise DataError(f"{file}: {section!r} must be a list of cases.")
        side = {"split": section} if sided or SIDES[section] == "test" else {}
        for number, entry in enumerate(entries):
            entry = {"image": entry} if isinstance(entry, str) else entry
            if not isinstance(entry, Mapping):
                raise DataError(f"{file}: {section}[{number}] must be an object with 'image'.")
            yield f"{section}[{number}]", {**side, **entry}


def _cases(rows: Sequence[Row], file: Path) -> list[Case]:
    """A case for each row; files of one name in different folders get the folder's name too."""
    cases = [_case(where, row, file) for where, row in rows]
    count = Counter(case.id for case in cases)
    for number, (case, (_, row)) in enumerate(zip(cases, rows, strict=True)):
        if count[case.id] > 1 and not row.get("id"):
            folder = case.images[0].absolute().parent.name
            cases[number] = replace(case, id=safe_id(f"{folder}_{case.id}"))
    return cases


def _case(where: str, row: Mapping[str, Any], file: Path) -> Case:
    entries = _images(row)
    if not entries:
        raise DataError(f"{file}, {where}: names no image.")
    images = tuple(_path(entry, file, where) for entry in entries)
    label = row.get("label")
    split = str(row.get("split") or "").strip().lower()
    if split and split not in SIDES:
        raise DataError(f"{file}, {where}: the split {split!r} is none of train, val and test.")
    return Case(
        id=safe_id(str(row.get("id") or stem(images[0]))),
        images=images,
        label=_path(label, file, where) if label else None,
        patient=_text(row, "patient"),
        site=_text(row, "site"),
        split=SIDES.get(split),
    )


def _images(row: Mapping[str, Any]) -> list[Any]:
    numbered = {int(m[1]): row[key] for key in row if (m := CHANNEL.fullmatch(str(key)))}
    if any(numbered.values()):
        return [numbered[number] for number in sorted(numbered)]
    image = row.get("image")
    return list(image) if isinstance(image, list) else [image] if image else []


def _path(entry: object, file: Path, where: str) -> Path:
    if not isinstance(entry, str) or not entry.strip():
        raise DataError(f"{file}, {where}: {entry!r} is not the name of a file.")
    path = file.parent / entry.strip()
    if image_suffix(path) is None:
        raise DataError(f"{file}, {where}: {entry!r} is not an image file of a known format.")
    return path


def _text(row: Mapping[str, Any], key: str) -> str | None:
    value = row.get(key)
    return None if value is None or not str(value).strip() else str(value).strip()
