"""Open a data set of classes: its layout is found by looking, or named."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from medseg_nca.datasets.classes.base import ClassData, ClassImage, ClassLayout
from medseg_nca.errors import ConfigError, DataError
from medseg_nca.registry import PluginRegistry

log = logging.getLogger(__name__)

CLASS_LAYOUTS = PluginRegistry(
    "medseg_nca.datasets.classes",
    "medseg_nca.class_layouts",
    "LAYOUT",
    "layout of classes",
    fits=lambda found: isinstance(found, ClassLayout) and isinstance(found.rank, int | float),
    error=DataError,
)


def open_classes(path: Path, format: str = "auto", names: Sequence[str] = ()) -> ClassData:
    """Open a data set of classes.

    Args:
        path: its folder or file, or the name of a built-in data set.
        format: a layout's name, or "auto" to find it by looking.
        names: what the classes are called, in their order; none keeps the data set's own names.

    Raises:
        DataError: if there is no such data set, its layout is not known, it holds no image or one
            class only.
        ConfigError: if there is another number of names than of classes, or one is used twice.
    """
    data = _layout(path, format).open(path)
    if not data.images:
        raise DataError(f"{path}: there is no image in it (layout {data.format}).")
    if len(data.classes) < 2:
        raise DataError(
            f"{path}: all {len(data.images)} images are of one class, {data.classes[0]!r}.",
            hint="There is nothing to tell apart; a folder for each class is needed.",
        )
    return data if not names else _renamed(data, tuple(names))


def class_counts(images: Sequence[ClassImage]) -> Counter[str]:
    """How many images each class has."""
    return Counter(str(image.truth) for image in images)


def _layout(path: Path, format: str) -> ClassLayout:
    if format != "auto":
        named: ClassLayout = CLASS_LAYOUTS.get(format)
        return named
    known: list[tuple[str, ClassLayout]] = list(CLASS_LAYOUTS.usable())
    known.sort(key=lambda entry: (entry[1].rank, entry[0]))
    found = next((layout for _, layout in known if layout.recognises(path)), None)
    if found is not None:
        return found
    layouts = "; ".join(f"{name}: {layout.layout}" for name, layout in known)
    if not path.exists():
        raise DataError(f"{path}: there is no such file or folder.", hint=f"Known: {layouts}.")
    raise DataError(f"{path}: is no data set of classes in a known layout.", hint=layouts)


def rename_classes(data: ClassData, names: Mapping[str, str]) -> ClassData:
    """The same data set with other names of its classes, in the same order."""
    images = tuple(replace(image, truth=names[str(image.truth)]) for image in data.images)
    classes = tuple(names[name] for name in data.classes)
    return replace(data, classes=classes, images=images, own_names=data.classes)


def _renamed(data: ClassData, names: tuple[str, ...]) -> ClassData:
    if len(names) != len(data.classes) or len(set(names)) != len(names):
        raise ConfigError(
            f"options.class_names: {len(set(names))} different names for {len(data.classes)} "
            f"classes ({', '.join(data.classes[:20])}).",
            hint="Name every class once, in this order.",
        )
    return rename_classes(data, dict(zip(data.classes, names, strict=True)))
