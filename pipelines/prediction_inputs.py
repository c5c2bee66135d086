"""From what the caller names to the cases that are predicted: which files, which result."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from medseg_nca.errors import DataError, OutputError
from medseg_nca.io.formats import find_images, image_suffix, stem

# nnU-Net's ending of a file that holds one channel.
_CHANNEL = re.compile(r"_\d{4}$")


@dataclass(frozen=True)
class PredictionCase:
    """One image to predict.

    Attributes:
        name: what its results are called, without a suffix; no two cases share it.
        files: one with all channels, or one file each.
    """

    name: str
    files: tuple[Path, ...]

    @property
    def source(self) -> Path:
        """The file that stands for the image."""
        return self.files[0]

    @property
    def label_suffix(self) -> str:
        """Label maps keep the input's format; JPEG would change the numbers: it becomes PNG."""
        suffix = image_suffix(self.source) or ".nii.gz"
        return ".png" if suffix in {".jpg", ".jpeg", ".bmp"} else suffix


def find_cases(inputs: Sequence[Path], channels: int) -> list[PredictionCase]:
    """Find the images that the inputs name; no file is opened.

    Args:
        inputs: files, or folders whose images are taken.
        channels: of the model.

    Raises:
        DataError: if an input does not exist, or there is no image at all.
    """
    groups = group_channels(collect(inputs), channels)
    names = _output_names(groups)
    return [PredictionCase(names[file], files) for file, files in groups.items()]


def collect(inputs: Sequence[Path]) -> list[Path]:
    """Return the image files that the inputs name, folders opened, without repetition.

    Raises:
        DataError: if an input does not exist, or there is no image at all.
    """
    files: list[Path] = []
    for path in inputs:
        if path.is_dir():
            found = find_images(path)
            if not found:
                raise DataError(f"{path}: holds no image that can be read.")
            files += found
        elif not path.exists():
            raise DataError(f"{path}: there is no such file or folder.")
        else:
            files.append(path)
    if not files:
        raise DataError("There is nothing to predict.", hint="Name image files or folders.")
    return list(dict.fromkeys(files))


def group_channels(files: Sequence[Path], channels: int) -> dict[Path, tuple[Path, ...]]:
    """Put the channel files ``x_0000, x_0001, ...`` of an image together, by its first file.

    Only for models of several channels; a file without such an ending holds all of them.
    """
    if channels == 1:
        return {file: (file,) for file in files}
    groups: dict[tuple[Path, str], list[Path]] = {}
    for file in files:
        name = _CHANNEL.sub("", stem(file))
        groups.setdefault((file.parent, name), []).append(file)
    return {sorted(group)[0]: tuple(sorted(group)) for group in groups.values()}


def _output_names(groups: Mapping[Path, tuple[Path, ...]]) -> dict[Path, str]:
    """A name for each image; where two would be the same, folder and format tell them apart."""
    plain = {
        file: stem(file) if len(group) == 1 else _CHANNEL.sub("", stem(file))
        for file, group in groups.items()
    }
    often = Counter(plain.values())
    taken: set[str] = set()
    names: dict[Path, str] = {}
    for file, name in plain.items():
        if often[name] > 1:
            name = f"{file.resolve().parent.name}_{name}"
        number, base = 1, name
        while name in taken:
            number += 1
            name = f"{base}_{number}"
        names[file] = name
        taken.add(name)
    return names


def refuse_overwriting(cases: Sequence[PredictionCase], out: Path) -> None:
    """Refuse a result that would take the place of an input: an image would be lost.

    Raises:
        OutputError: naming the file.
    """
    inputs = {file.resolve() for case in cases for file in case.files}
    for case in cases:
        target = out / f"{case.name}{case.label_suffix}"
        if target.resolve() in inputs:
            raise OutputError(
                f"{target}: is an input and would be overwritten.", hint="Choose another --out."
            )
