"""A prepared data set: what ``medseg-nca preprocess`` wrote, ready to train on.

The folder holds ``prepared.json`` (cases, labels, where they came from), ``plan.json``,
``fingerprint.json`` and ``cases/<id>.npz`` with the arrays ``image`` and, where there is one,
``label``. It is complete when ``prepared.json`` is there.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from medseg_nca.config import LabelTable, PreprocessPlan, Settings
from medseg_nca.datasets.base import Side
from medseg_nca.datasets.rules import BrokenRule, thin_labels
from medseg_nca.datasets.splits import SIDES, Split
from medseg_nca.errors import DataError
from medseg_nca.io.atomic import write_json
from medseg_nca.io.dicom.annotations.legend import Legend

INDEX, PLAN, FINGERPRINT, CASES = "prepared.json", "plan.json", "fingerprint.json", "cases"
# A case names its file, so no name in an index may lead out of the folder.
SAFE_ID = r"^[A-Za-z0-9_][A-Za-z0-9._-]*$"
AGAIN = "Run `medseg-nca preprocess` again; only what is missing is made."


class PreparedCase(Settings):
    """One case.

    ``images`` and ``label`` are its source files, ``segments`` numbers those of a DICOM label;
    ``shape`` is that of the prepared array; ``foreground`` counts the prepared voxels of each
    label, by name; ``centres`` says where each lies in the source image, turned to the plan's
    orientation, from 0 to 1 of each axis. ``key`` tells from which content
    and settings the cached arrays were made.
    """

    id: str = Field(pattern=SAFE_ID)
    patient: str | None = None
    site: str | None = None
    split: Side | None = None
    images: tuple[Path, ...]
    label: Path | None = None
    segments: Legend | None = None
    shape: tuple[int, ...]
    foreground: dict[str, int] = Field(default_factory=dict)
    centres: dict[str, tuple[float, ...]] = Field(default_factory=dict)
    key: str


class FailedCase(Settings):
    """A case that could not be prepared, and why."""

    id: str
    error: str


class PreparedIndex(Settings):
    """The content of ``prepared.json``."""

    format_version: Literal[1] = 1
    package_version: str
    name: str
    modality: str
    dataset_hash: str
    labels: LabelTable
    cases: tuple[PreparedCase, ...]
    failed: tuple[FailedCase, ...] = ()


class PreparedStore:
    """Read access to a prepared data set.

    Attributes:
        folder: where it is.
        index: the content of ``prepared.json``.
        plan: how it was made.
    """

    def __init__(self, folder: Path, index: PreparedIndex, plan: PreprocessPlan) -> None:
        self.folder = folder
        self.index = index
        self.plan = plan
        self._by_id = {case.id: case for case in index.cases}

    @classmethod
    def open(cls, folder: Path) -> PreparedStore:
        """Open a folder that ``medseg-nca preprocess`` wrote.

        Raises:
            DataError: if it is not one, is incomplete or was made by another version.
        """
        folder = Path(folder)
        if not is_prepared(folder):
            raise DataError(
                f"{folder}: is not a prepared data set.",
                hint=f"Make one: medseg-nca preprocess --data DIR --out {folder}",
            )
        index = _read(PreparedIndex, folder / INDEX)
        return cls(folder, index, _read(PreprocessPlan, folder / PLAN))

    @property
    def name(self) -> str:
        """Name of the data set."""
        return self.index.name

    @property
    def dataset_hash(self) -> str:
        """SHA-256 over the ids and source files of the prepared cases."""
        return self.index.dataset_hash

    @property
    def labels(self) -> LabelTable:
        """What the channels of the labels mean."""
        return self.index.labels

    @property
    def cases(self) -> tuple[PreparedCase, ...]:
        """The cases that were prepared, sorted by id."""
        return self.index.cases

    @property
    def failed(self) -> tuple[FailedCase, ...]:
        """The cases that could not be prepared."""
        return self.index.failed

    @property
    def labelled(self) -> tuple[PreparedCase, ...]:
        """The cases that have a label map."""
        return tuple(case for case in self.cases if case.label is not None)

    def thin_labels(self, split: Split) -> tuple[BrokenRule, ...]:
        """The labels that a split leaves without cases to learn, or to validate."""
        present = {
            case.id: [name for name, voxels in case.foreground.items() if voxels]
            for case in self.labelled
        }
        sides = {side: split.side(side) for side in SIDES}
        return tuple(thin_labels(self.labels.names, present, sides))

    def case(self, case_id: str) -> PreparedCase:
        """Return one case.

        Raises:
            DataError: if there is no such case.
        """
        if case_id not in self._by_id:
            raise DataError(f"{self.folder}: there is no case {case_id!r}.")
        return self._by_id[case_id]

    def load(self, case_id: str) -> tuple[NDArray[np.float32], NDArray[np.uint8] | None]:
        """Return image ``(C, *S)`` float32 and the encoded label, None if there is none.

        The label is uint8: ``(1, *S)`` channel numbers, or ``(L, *S)`` for a multi-label table.

        Raises:
            DataError: if there is no such case, or its file is missing or damaged.
        """
        path = array_file(self.folder, self.case(case_id).id)
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                return arrays["image"], arrays.get("label", None)
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise DataError(f"{path}: cannot be read ({error}).", hint=AGAIN) from error


def is_prepared(folder: Path) -> bool:
    """Whether a folder holds a complete prepared data set."""
    return (Path(folder) / INDEX).is_file() and (Path(folder) / PLAN).is_file()


def array_file(folder: Path, case_id: str) -> Path:
    """Where the arrays of a case lie."""
    return folder / CASES / f"{case_id}.npz"


def write_store(folder: Path, index: PreparedIndex, plan: PreprocessPlan) -> PreparedStore:
    """Write plan and index beside the arrays; from then on the data set counts as prepared.

    Raises:
        OutputError: if they cannot be written.
    """
    write_json(folder / PLAN, plan.model_dump(mode="json"))
    write_json(folder / INDEX, index.model_dump(mode="json"))
    return PreparedStore(folder, index, plan)


def _read(model: type[Any], path: Path) -> Any:
    try:
        return model.model_validate_json(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}).") from error
    except ValidationError as error:
        detail = error.errors()[0]
        where = ".".join(str(part) for part in detail["loc"])
        raise DataError(
            f"{path}: is damaged or of another version ({where}: {detail['msg']}).", hint=AGAIN
        ) from error
