"""Read one case and say what is wrong with it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np

from medseg_nca.datasets.base import Case, DataSet
from medseg_nca.datasets.rules import MANY_VALUES, label_map_problem
from medseg_nca.errors import ImageError
from medseg_nca.io.formats import image_suffix
from medseg_nca.io.grid import grid_difference
from medseg_nca.io.read import read_image, read_label
from medseg_nca.io.volume import Volume
from medseg_nca.pipelines.check_report import CaseRow, DataFinding, Level


def check_case(case: Case, dataset: DataSet) -> tuple[CaseRow, list[DataFinding]]:
    """Read a case's files and compare them with each other and with the data set.

    Nothing is raised for what is wrong with the files: it is in the findings.
    """
    checker = _CaseChecker(case, dataset)
    checker.run()
    return checker.row, checker.findings


class _CaseChecker:
    """Collects the findings on one case."""

    def __init__(self, case: Case, dataset: DataSet) -> None:
        self.case = case
        self.dataset = dataset
        self.row = CaseRow(case.id, case.patient, case.site, case.split)
        self.findings: list[DataFinding] = []

    def run(self) -> None:
        image = self._image()
        if self.case.label is None:
            self._add("warning", "no_label", f"{self.case.id}: has no label map.")
            return
        if image is None and image_suffix(self.case.label) is None:
            return  # a DICOM object has no grid without its image
        label = self._label(self.case.label, image)
        if image is not None and label is not None:
            self._grids(image, label)

    def _add(self, level: Level, code: str, message: str) -> None:
        self.findings.append(DataFinding(level, code, message, self.case.id))

    def _missing(self, files: Sequence[Path]) -> bool:
        absent = [file for file in files if not file.is_file()]
        for file in absent:
            self._add("error", "missing_file", f"{file}: there is no such file.")
        return bool(absent)

    def _image(self) -> Volume | None:
        if self._missing(self.case.images):
            return None
        try:
            image = read_image(self.case.images)
            self._describe(image)
        except ImageError as error:
            self._add("error", "image_unusable", str(error))
            return None
        except MemoryError:
            self._add("error", "image_too_large", f"{self.case.images[0]}: does not fit in memory.")
            return None
        self._constant(image)
        self._picture(image)
        return image

    def _describe(self, image: Volume) -> None:
        values = image.array
        self.row = replace(
            self.row,
            channels=image.array.shape[0],
            shape=image.shape,
            spacing=tuple(float(f"{step:.6g}") for step in image.spacing),
            orientation="".join(map(str, nib.aff2axcodes(image.affine)))[: image.dims],
            low=float(values.min()),
            high=float(values.max()),
            mean=float(values.mean(dtype=np.float64)),
            image_digest=digest(image),
        )

    def _constant(self, image: Volume) -> None:
        flat = [i for i, part in enumerate(image.array) if part.min() == part.max()]
        name = self.case.images[0]
        if len(flat) == len(image.array):
            text = f"{name}: the image is constant (every value is {self.row.low:g})."
            self._add("error", "constant_image", text)
        elif flat:
            names = ", ".join(str(i) for i in flat)
            self._add("warning", "constant_channel", f"{name}: channel {names} is constant.")

    def _label(self, path: Path, image: Volume | None) -> Volume | None:
        if self._missing([path]):
            return None
        try:
            label = read_label(path, image, self.case.segments)
        except ImageError as error:
            self._add("error", "label_unusable", str(error))
            return None
        except MemoryError:
            self._add("error", "label_too_large", f"{path}: does not fit in memory.")
            return None
        values, counts = np.unique(label.array, return_counts=True)
        voxels = dict(zip(values.tolist(), counts.tolist(), strict=True))
        self.row = replace(self.row, voxels=dict(list(voxels.items())[:MANY_VALUES]))
        self._values(path, voxels)
        self._picture(label)
        if image is not None:
            self._turned(image, label)
        if set(voxels) - {0}:
            self.row = replace(self.row, label_digest=digest(label))
        return label

    def _picture(self, volume: Volume) -> None:
        """What the file of a picture says that is not in its numbers."""
        about, name = volume.header.get("picture", {}), volume.sources[0]
        for text in about.get("told", ()):
            self._add("warning", "told_of_label", f"{name}: {text}")
        if about.get("pixel_size"):
            text = f"{name}: says that a pixel is {about['pixel_size']}; it counts as 1 mm."
            self._add("warning", "pixel_size_not_used", text)

    def _turned(self, image: Volume, label: Volume) -> None:
        """Warn if tags turn image and label map differently; what is compared is what is shown."""
        tags = [volume.header.get("picture", {}).get("orientation", 1) for volume in (image, label)]
        if tags[0] != tags[1]:
            text = (
                f"{image.sources[0]}: is shown turned (Orientation {tags[0]}), its label map is "
                f"not (Orientation {tags[1]}); they are compared as they are shown."
            )
            self._add("warning", "orientation_differs", text)

    def _values(self, path: Path, voxels: dict[int, int]) -> None:
        if not set(voxels) - {0}:
            self._add("warning", "empty_label", f"{path}: the label map is empty.")
        table = self.dataset.labels
        problem = label_map_problem(voxels, table.known_values if table else None)
        if problem is not None:
            self._add("error", problem.code, f"{path}: {problem.message} {problem.hint}")

    def _grids(self, image: Volume, label: Volume) -> None:
        difference = grid_difference(image, label)
        if difference:
            code = "shape_differs" if image.shape != label.shape else "affine_differs"
            text = f"{self.case.label}: differs from its image in {difference}."
            self._add("error", code, text)


def digest(volume: Volume) -> str:
    """A hash of a volume's values and shape; the file format and number type do not count."""
    content = hashlib.blake2b(str(volume.array.shape).encode(), digest_size=16)
    for channel in volume.array:
        for part in channel:  # a slice at a time: no second copy of a large volume
            content.update(np.ascontiguousarray(part, dtype=np.float32).tobytes())
    return content.hexdigest()
