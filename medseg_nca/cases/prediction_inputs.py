"""Find the cases that are predicted: from what the caller names to files and results."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from medseg_nca.config.plan import PreprocessPlan
from medseg_nca.errors import DataError, ImageError, OutputError
from medseg_nca.io.formats import (
    find_images,
    folders_below,
    half_images,
    image_suffix,
    in_short,
    stem,
)
from medseg_nca.io.read import read_image, read_volume
from medseg_nca.io.volume import Volume
from medseg_nca.io.write import dims_of, needs_dicom, suffix_of

if TYPE_CHECKING:
    from medseg_nca.io.dicom.records import Series, Stack

logger = logging.getLogger(__name__)

# nnU-Net's ending of a file that holds one channel.
_CHANNEL = re.compile(r"_\d{4}$")


@dataclass(frozen=True)
class CaseInput:
    """One image to predict, with all that was learned when it was found.

    Attributes:
        name: name of its results, without a suffix; no two cases share it.
        files: one file with all channels, or one file for each channel; or the DICOM files of one
            volume.
        dicom: whether the files are DICOM.
        found: what the headers of a DICOM volume say: its series, whose lists of files and stacks
            are empty, and its planes in their order. None for other images.
        part: name of the stack, if the same DICOM files hold other volumes too.
        refused: why the case cannot be predicted; None if nothing is known against it.
    """

    name: str
    files: tuple[Path, ...]
    dicom: bool = False
    found: tuple[Series, Stack] | None = field(default=None, repr=False, compare=False)
    part: str | None = None
    refused: str | None = None

    @property
    def source(self) -> Path:
        """The file that stands for the image."""
        return self.files[0]

    @property
    def label_suffix(self) -> str:
        """The suffix of its label map: that of the input, but PNG instead of JPEG and BMP."""
        suffix = image_suffix(self.source) or ".nii.gz"
        return ".png" if suffix in {".jpg", ".jpeg", ".bmp"} else suffix

    def read(self) -> Volume:
        """Read the image.

        Raises:
            ImageError: if it cannot be used, or is refused.
        """
        if self.refused is not None:
            raise ImageError(self.refused)
        if self.found is not None:
            from medseg_nca.io.dicom.read import read_stack

            return read_stack(*self.found)
        return read_volume(self.source) if len(self.files) == 1 else read_image(self.files)

    def absolute(self) -> CaseInput:
        """Return the case with absolute paths, for a process with another current folder."""
        files = tuple(file.absolute() for file in self.files)
        if self.found is None:
            return replace(self, files=files)
        series, stack = self.found
        planes = tuple(replace(plane, path=plane.path.absolute()) for plane in stack.planes)
        return replace(self, files=files, found=(series, replace(stack, planes=planes)))

    def targets(self, out: Path, formats: Sequence[str]) -> dict[str, Path]:
        """Return the files of the label map by format; without formats, a file like the input."""
        if not formats and not self.dicom:
            return {"label_map": out / f"{self.name}{self.label_suffix}"}
        return {name: out / f"{self.name}{suffix_of(name)}" for name in formats or ("dicom-seg",)}


def find_cases(
    inputs: Sequence[Path],
    plan: PreprocessPlan,
    select: str | None = None,
    results: Collection[Path] = (),
) -> list[CaseInput]:
    """Find the images that the inputs name; of DICOM files the headers are read.

    Args:
        inputs: image files; folders whose images are taken; trees with DICOM files, or such files.
        plan: of the model; among DICOM series images with its number of axes are taken, if there
            are any.
        select: which DICOM volumes, see :func:`medseg_nca.io.dicom.select.parse_selection`.
        results: resolved files of an earlier run, which are no inputs although a folder holds them.

    Raises:
        DataError: if an input does not exist, or there is no image at all.
        ConfigError: if ``select`` is not understood.
    """
    files, trees, loose = _sort(inputs, results)
    groups = group_channels(files, len(plan.channels))
    names = _output_names(groups)
    cases = [CaseInput(names[file], group) for file, group in groups.items()]
    if trees or loose:
        from medseg_nca.cases.prediction_dicom import dicom_cases

        cases += dicom_cases(trees, loose, plan, select, alone=not cases)
    elif select is not None:
        raise DataError(
            "--select chooses among DICOM series, and there is none.", hint="Leave it out."
        )
    if not cases:
        raise DataError("There is nothing to predict.", hint="Name image files or folders.")
    return _told_apart(cases)


def _sort(
    inputs: Sequence[Path], results: Collection[Path]
) -> tuple[list[Path], list[Path], list[Path]]:
    """Return image files (also those in folders), folders with DICOM files, and DICOM files."""
    from medseg_nca.datasets.find import get_adapter
    from medseg_nca.io.dicom.files.reader import looks_like_dicom

    files: list[Path] = []
    trees: list[Path] = []
    loose: list[Path] = []
    for path in inputs:
        if path.is_dir():
            found = [file for file in find_images(path) if file.resolve() not in results]
            files += found
            dicom = get_adapter("dicom").recognises(path)
            if dicom:
                trees.append(path)
            _look_below(path, alone=not (found or dicom), inputs=inputs, results=results)
        elif not path.exists():
            raise DataError(f"{path}: there is no such file or folder.")
        elif image_suffix(path) is None and looks_like_dicom(path):
            loose.append(path)
        else:
            files.append(path)
    return list(dict.fromkeys(files)), list(dict.fromkeys(trees)), list(dict.fromkeys(loose))


def _look_below(
    folder: Path, *, alone: bool, inputs: Sequence[Path], results: Collection[Path]
) -> None:
    """Warn of images in sub-folders, which are not read: they are often label maps or results.

    Raises:
        DataError: if there is no image in the folder itself.
    """
    named = {path.resolve() for path in inputs}
    below = [
        (sub, count)
        for sub, count in folders_below(folder).items()
        if sub.resolve() not in named and sub.resolve() not in {file.parent for file in results}
    ]
    names = in_short(sub.relative_to(folder).as_posix() for sub, _ in below)
    if alone and below:
        raise DataError(
            f"{folder}: its images lie in sub-folders: {names}.",
            hint=f"Name the folders that are to be predicted, for example {below[0][0]}.",
        )
    if alone:
        raise DataError(f"{folder}: holds no image that can be read.", hint=half_images(folder))
    if halves := half_images(folder):
        logger.warning("%s: not all is read. %s", folder, halves)
    if below:
        logger.warning(
            "%s: %d image(s) in sub-folders are passed over (%s); name the folders to take them.",
            folder, sum(count for _, count in below), names,
        )  # fmt: skip


def _told_apart(cases: Sequence[CaseInput]) -> list[CaseInput]:
    """Give numbers to DICOM cases that have the name of another case."""
    taken: set[str] = set()
    result = []
    for case in cases:
        name, number = case.name, 1
        while name in taken:
            number += 1
            name = f"{case.name}_{number}"
        taken.add(name)
        result.append(case if name == case.name else replace(case, name=name))
    return result


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
    """Return a name for each image; equal names get the folder's name in front, or a number."""
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


def refuse_formats(
    cases: Sequence[CaseInput], formats: Sequence[str], dims: int
) -> list[CaseInput]:
    """Refuse formats that cannot hold the results, before anything is computed.

    Returns:
        The cases; one whose result a format cannot hold is refused by name, beside others.

    Raises:
        OutputError: naming the format that can hold no result at all, and one of the files.
    """
    for name in formats:
        if dims not in dims_of(name):
            raise OutputError(
                f"Output format {name} cannot hold the result of a model with {dims} axes.",
                hint="Use nifti or nrrd.",
            )
    referring = [name for name in formats if needs_dicom(name)]
    if not referring:
        return list(cases)
    if not any(case.dicom for case in cases):
        source = cases[0].source
        raise OutputError(
            _no_dicom(source, referring[0]),
            hint="Use nifti or nrrd, or write the image as a DICOM series first: "
            f"medseg-nca dicom write {source} --out DIR",
        )
    return [
        case
        if case.dicom or case.refused
        else replace(case, refused=f"{_no_dicom(case.source, referring[0])} Predict it by itself.")
        for case in cases
    ]


def _no_dicom(source: Path, name: str) -> str:
    return f"{source}: is no DICOM image, and {name} refers to the image it was made from."


def refuse_overwriting(
    cases: Sequence[CaseInput], targets: Callable[[CaseInput], Iterable[Path]]
) -> None:
    """Refuse a result that would take the place of an input: an image would be lost.

    Args:
        cases: all cases of the request.
        targets: returns the files that will be written for a case.

    Raises:
        OutputError: if a result would; the message names the file.
    """
    inputs = {file.resolve() for case in cases for file in case.files}
    for case in cases:
        for target in targets(case):
            if target.resolve() in inputs:
                raise OutputError(
                    f"{target}: is an input and would be overwritten.", hint="Choose another --out."
                )
