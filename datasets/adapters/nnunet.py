"""nnU-Net raw data: ``imagesTr/x_0000.nii.gz``, ``labelsTr/x.nii.gz``, dataset.json (Isensee 2021).

Version 2 of dataset.json is meant (``channel_names``, ``labels`` by name, regions and
``file_ending``); what version 1 said in another way is understood too. Without a dataset.json the
channels have numbers for names and the labels are found from the label maps.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medseg_nca.config import LabelTable
from medseg_nca.datasets.base import Case, DataSet
from medseg_nca.datasets.layout import (
    channel_names,
    label_table,
    look,
    modality_of,
    read_json_object,
    safe_id,
    sorted_cases,
)
from medseg_nca.datasets.rules import no_images
from medseg_nca.errors import DataError
from medseg_nca.io.formats import find_images, folders_below, image_suffix, stem

FILE, IMAGES, LABELS = "dataset.json", "imagesTr", "labelsTr"
NUMBERED = re.compile(r"(?P<case>.+)_(?P<channel>\d{4})")


class NnUNet:
    """See :class:`medseg_nca.datasets.find.Adapter`."""

    layout = "imagesTr/CASE_0000.nii.gz, labelsTr/CASE.nii.gz and nnU-Net's dataset.json"
    rank = 20

    def recognises(self, path: Path) -> bool:
        """A folder with imagesTr whose files are numbered by channel, and not listed as they are.

        The decathlon's layout differs in this alone: its list names the very files.
        """
        folder = path / IMAGES
        if not folder.is_dir():
            return False
        try:
            tree = read_json_object(path / FILE)
        except DataError:
            tree = {}
        listed = json.dumps(tree.get("training", []))
        return "channel_names" in tree or any(
            match["channel"] == "0000" and file.name not in listed
            for file in find_images(folder)
            if (match := NUMBERED.fullmatch(stem(file)))
        )

    def open(self, path: Path) -> DataSet:
        """Pair the files of imagesTr and labelsTr."""
        file = path / FILE
        tree = read_json_object(file) if file.is_file() else {}
        ending = tree.get("file_ending")
        images = _images(path, ending)
        numbers = sorted({number for channels in images.values() for number in channels})
        named = tree.get("channel_names", tree.get("modality", [f"channel_{n}" for n in numbers]))
        channels = channel_names(named, file)
        cases = sorted_cases(
            (_case(path, name, files, channels, ending) for name, files in images.items()), path
        )
        return DataSet(
            name=str(tree.get("name") or path.resolve().name),
            root=path,
            format="nnunet",
            dims=look(cases)[0],
            channels=channels,
            cases=cases,
            labels=_labels(tree, file) if "labels" in tree else None,
            modality=modality_of(channels),
            licence=tree.get("licence") or tree.get("license"),
            description=str(tree.get("description", "")),
        )


ADAPTER = NnUNet()


def _images(path: Path, ending: str | None) -> dict[str, dict[int, Path]]:
    """The image files by case and channel number."""
    folder = path / IMAGES
    if not folder.is_dir():
        raise DataError(f"{path}: has no folder {IMAGES}.")
    found: dict[str, dict[int, Path]] = defaultdict(dict)
    for file in find_images(folder):
        match = NUMBERED.fullmatch(stem(file))
        if match and (ending is None or file.name.endswith(ending)):
            found[match["case"]][int(match["channel"])] = file
    if not found and folders_below(folder):
        raise no_images(folder)
    if not found:
        wanted = f"CASE_0000{ending or '.nii.gz'}"
        raise DataError(f"{folder}: holds no image called {wanted}.")
    return found


def _case(
    path: Path, name: str, files: Mapping[int, Path], channels: tuple[str, ...], ending: str | None
) -> Case:
    some = next(iter(files.values()))
    suffix = ending or image_suffix(some) or ""
    # A channel that is not there is named all the same: then the check says which one is missing.
    # One RGB file may hold all of several channels.
    single = len(files) == 1 and 0 in files and suffix in {".png", ".tif", ".tiff", ".bmp"}
    numbers = range(1 if single else len(channels))
    images = tuple(
        files.get(n, some.with_name(f"{name}_{n:04d}{suffix}")) for n in numbers
    ) + tuple(file for n, file in sorted(files.items()) if n not in numbers)
    label = path / LABELS / f"{name}{suffix}"
    return Case(id=safe_id(name), images=images, label=label if label.is_file() else None)


def _labels(tree: Mapping[str, Any], file: Path) -> LabelTable | None:
    labels = tree["labels"]
    if isinstance(labels, Mapping) and "ignore" in labels:
        raise DataError(
            f"{file}: has an 'ignore' label, which is not supported.",
            hint="Make it background or a label of its own.",
        )
    return label_table(labels, file, order=tree.get("regions_class_order"))
