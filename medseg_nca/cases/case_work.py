"""Predict one case of any task, in whatever process: read, predict, write, keep a record."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Generic, Protocol, Self, TypeVar

from medseg_nca.cases.prediction_inputs import CaseInput
from medseg_nca.cases.training_notes import read_likeness
from medseg_nca.datasets.hashing import file_hash
from medseg_nca.errors import DataError, ImageError
from medseg_nca.io.atomic import write_json
from medseg_nca.io.peek import Extent, peek
from medseg_nca.io.volume import Volume
from medseg_nca.job import Job
from medseg_nca.transforms.likeness import Likeness
from medseg_nca.work.case_records import WrittenFile, invalidate, read_record, record_path


@dataclass(frozen=True)
class CaseRecord(ABC):
    """What became of one case; ``predictions.json`` lists the records.

    A task adds what it says of a result.

    Attributes:
        name: name of the case.
        source: the file that stands for its image.
        out: folder of the results.
        key: hash of input, settings and model; "" if there is no result.
        files: the results, by kind.
        seconds: the time that the case took, in the run that made the result.
        training: how the image compares with those of the training
            (:meth:`medseg_nca.transforms.likeness.Likeness.to_dict`).
        error: why there is no result; None if there is one.
        cached: whether an earlier run made the result.
    """

    name: str
    source: Path
    out: Path
    key: str = ""
    files: Mapping[str, WrittenFile] = field(default_factory=dict)
    seconds: float = 0.0
    training: Mapping[str, Any] = field(default_factory=dict)
    error: str | None = None
    cached: bool = field(default=False, compare=False)

    @property
    @abstractmethod
    def line(self) -> str:
        """The line shown in the terminal."""

    @abstractmethod
    def facts(self) -> dict[str, Any]:
        """Return what the task says of the result, as plain values."""

    @classmethod
    @abstractmethod
    def read_facts(cls, tree: Any) -> dict[str, Any]:
        """Return the task's own attributes by name, from a tree that holds :meth:`facts`.

        Raises:
            KeyError, TypeError, ValueError, AttributeError: if the tree is something else.
        """

    @property
    def outputs(self) -> dict[str, str]:
        """The files that were written, by kind."""
        return {kind: str(self.out / file.name) for kind, file in self.files.items()}

    @classmethod
    def from_tree(cls, tree: Any, out: Path) -> Self | None:
        """Read what ``to_dict`` returned; None if it is something else, or has no result.

        A record that version 0.1 left of a case in an unfinished run has neither name nor input.
        """
        try:
            tree = {**tree, **tree.get("record", {})}
            return cls(
                name=str(tree.get("name", "")),
                source=Path(tree.get("input", "")),
                out=out,
                key=str(tree["key"]),
                files={kind: WrittenFile(**file) for kind, file in tree["files"].items()},
                seconds=float(tree["seconds"]),
                training=read_likeness(tree["training"]),
                **cls.read_facts(tree),
            )
        except (KeyError, TypeError, ValueError, AttributeError):
            return None

    def to_dict(self) -> dict[str, Any]:
        """Return the plain values that ``predictions.json`` holds and ``--json`` prints."""
        tree: dict[str, Any] = {"input": str(self.source), "seconds": self.seconds}
        if self.error is not None:
            return {**tree, "error": self.error}
        files = {kind: asdict(file) for kind, file in self.files.items()}
        return {
            **tree,
            "outputs": self.outputs,
            **self.facts(),
            "training": dict(self.training),
            "record": {"name": self.name, "key": self.key, "files": files},
        }

    def holds(self, key: str, out: Path) -> bool:
        """Return whether it has this key, and all its files are in that folder."""
        return self.key == key and all(file.is_whole(out) for file in self.files.values())


class CasePrediction(Protocol):
    """The answer of a task to one image."""

    @property
    def likeness(self) -> Likeness:
        """How the image compares with the images of the training."""


class CasePredictor(Protocol):
    """The predictor of a task."""

    def check_memory(self, extent: Extent, name: str) -> None:
        """Check, before an image is read, that the memory budget is large enough for it."""

    def predict(self, volume: Volume, job: Job | None = None) -> Any:
        """Return the answer to one image."""


Record = TypeVar("Record", bound=CaseRecord)
Answer = TypeVar("Answer", bound=CasePrediction)


@dataclass(frozen=True)
class CaseWork(ABC, Generic[Record, Answer]):
    """One case to predict; a task adds its model and the output that is asked for.

    Attributes:
        case: the image.
        out: folder of the results.
        known: what an earlier run says of this case; None if there was none.
    """

    case: CaseInput
    out: Path
    known: Record | None = field(default=None, kw_only=True)

    @property
    @abstractmethod
    def record_class(self) -> type[Record]:
        """The class of the task's records."""

    @property
    @abstractmethod
    def predictor(self) -> CasePredictor:
        """The predictor of this process."""

    @abstractmethod
    def key(self, contents: Sequence[str]) -> str:
        """Return the hash of all that decides the result.

        Args:
            contents: hashes of the files of the case.
        """

    @abstractmethod
    def write(self, answer: Answer, image: Volume) -> tuple[dict[str, Path], dict[str, Any]]:
        """Write the results.

        Args:
            answer: what the predictor says of the image.
            image: the image.

        Returns:
            The files by kind, and the task's own attributes of the record by name.

        Raises:
            DataError: if a format cannot hold the result of this case.
            OutputError: if a file cannot be written.
        """


def predict_case(work: CaseWork[Record, Any], job: Job | None = None) -> Record:
    """Predict a case, or take what an earlier run made of the same files in the same way.

    Args:
        work: the case and its model.
        job: gets the progress within the case.

    Raises:
        DataError: if the case cannot be used.
        MemoryBudgetError: if the case needs more memory than the settings allow.
        OutputError: if a result cannot be written.
        Interrupted: if the job was cancelled; an older result then stays.
    """
    case, out = work.case, work.out
    if case.refused is not None:
        raise ImageError(case.refused)
    key = work.key(_contents(case))
    path = record_path(out, case.name)
    tree = read_record(path)
    known = work.known if tree is None else work.record_class.from_tree(tree, out)
    if known is not None and known.holds(key, out):
        return replace(known, name=case.name, source=case.source, out=out, cached=True)
    started = time.perf_counter()
    image, answer = _predicted(work, job)
    if tree is not None or work.known is not None:
        invalidate(path)
    record = _record(work, image, answer, key, started)
    write_json(path, record.to_dict())
    return record


def predict_once(work: CaseWork[Record, Any], job: Job | None = None) -> Record:
    """Predict a case as :func:`predict_case` does, where no later run goes on with the results.

    Nothing of an earlier run is looked for, and no record is left beside the results.

    Args:
        work: the case and its model.
        job: gets the progress within the case.

    Raises:
        DataError, MemoryBudgetError, OutputError, Interrupted: as :func:`predict_case`.
    """
    if work.case.refused is not None:
        raise ImageError(work.case.refused)
    started = time.perf_counter()
    image, answer = _predicted(work, job)
    return _record(work, image, answer, "", started)


def _predicted(work: CaseWork[Record, Answer], job: Job | None) -> tuple[Volume, Answer]:
    """Return the image of a case, and what the model says of it."""
    case, predictor = work.case, work.predictor
    extent = None if case.dicom else peek(case.files)
    if extent is not None:
        predictor.check_memory(extent, str(case.source))
    image = case.read()
    return image, predictor.predict(image, job)


def _record(
    work: CaseWork[Record, Answer], image: Volume, answer: Answer, key: str, started: float
) -> Record:
    """Write the results of a case, and return what became of it."""
    files, facts = work.write(answer, image)
    return work.record_class(
        name=work.case.name,
        source=work.case.source,
        out=work.out,
        key=key,
        files={kind: WrittenFile.of(file, work.out) for kind, file in files.items()},
        seconds=round(time.perf_counter() - started, 4),
        training=answer.likeness.to_dict(),
        **facts,
    )


def _contents(case: CaseInput) -> list[str]:
    try:
        return [file_hash(file) for file in case.files]
    except DataError:
        case.read()  # its error says better what is wrong
        raise
