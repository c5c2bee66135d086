"""Medical Segmentation Decathlon: ``dataset.json`` lists images and labels (Antonelli et al. 2022).

A multi-modal image is one 4D file; ``modality`` names its channels. The cases are those of the
``training`` list; the ``test`` list has no labels and is left out.

Beyond the decathlon's keys two are read that ``medseg-nca dicom import`` writes: ``patient`` of a
case, and ``label_codes``, which gives a label's number its ``code`` and ``modifier``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from medseg_nca.config import Label, LabelTable
from medseg_nca.datasets.base import Case, DataSet
from medseg_nca.datasets.layout import (
    channel_names,
    inside,
    label_table,
    look,
    modality_of,
    read_json_object,
    safe_id,
    sorted_cases,
)
from medseg_nca.errors import DataError
from medseg_nca.io.formats import stem

FILE = "dataset.json"


class Msd:
    """See :class:`medseg_nca.datasets.find.Adapter`."""

    layout = "dataset.json with a 'training' list of image and label"
    rank = 30

    def recognises(self, path: Path) -> bool:
        """A folder whose dataset.json has a ``training`` list."""
        file = _file(path)
        if file.name != FILE or not file.is_file():
            return False
        try:
            return isinstance(read_json_object(file).get("training"), list)
        except DataError:
            return True  # it is meant to be one: opening it says what is wrong with it

    def open(self, path: Path) -> DataSet:
        """Read dataset.json."""
        file = _file(path)
        tree = read_json_object(file)
        entries = tree.get("training")
        if not isinstance(entries, list) or not entries:
            raise DataError(f"{file}: 'training' must be a list with at least one case.")
        root = file.parent
        cases = sorted_cases((_case(entry, root, file) for entry in entries), file)
        channels = channel_names(tree.get("modality", {"0": "unknown"}), file)
        return DataSet(
            name=str(tree.get("name") or root.resolve().name),
            root=root,
            format="msd",
            dims=_dims(tree, cases),
            channels=channels,
            cases=cases,
            labels=_labels(tree, file),
            modality=modality_of(channels),
            licence=_text(tree, "licence", "license"),
            description=str(tree.get("description", "")),
        )


ADAPTER = Msd()


def _file(path: Path) -> Path:
    return path / FILE if path.is_dir() else path


def _case(entry: object, root: Path, source: Path) -> Case:
    if isinstance(entry, str):
        entry = {"image": entry}
    if not isinstance(entry, Mapping) or "image" not in entry:
        raise DataError(f"{source}: a case needs 'image' and 'label', got {entry!r}.")
    image = inside(root, entry["image"], source)
    label = entry.get("label")
    patient = entry.get("patient")
    return Case(
        id=safe_id(stem(image)),
        images=(image,),
        label=None if label is None else inside(root, label, source),
        patient=None if patient is None else str(patient),
    )


def _labels(tree: Mapping[str, Any], source: Path) -> LabelTable | None:
    table = label_table(tree.get("labels", {}), source)
    codes = tree.get("label_codes")
    if table is None or codes is None:
        return table
    if not isinstance(codes, Mapping):
        raise DataError(f"{source}: 'label_codes' must be a mapping of numbers and codes.")
    try:
        labels = [
            Label.model_validate({**label.model_dump(), **codes.get(str(label.written), {})})
            for label in table.labels
        ]
    except (ValidationError, TypeError) as error:
        raise DataError(f"{source}: 'label_codes' makes no sense ({error}).") from error
    return table.changed(labels=tuple(labels))


def _dims(tree: Mapping[str, Any], cases: tuple[Case, ...]) -> Literal[2, 3]:
    """The decathlon calls a 3D image of several channels "4D"."""
    size = str(tree.get("tensorImageSize", "")).upper()
    if size in {"3D", "4D"}:
        return 3
    return 2 if size == "2D" else look(cases)[0]


def _text(tree: Mapping[str, Any], *keys: str) -> str | None:
    return next((str(tree[key]) for key in keys if tree.get(key)), None)
