"""What a server and its worker processes say to each other."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from medseg_nca.errors import ModelError
from medseg_nca.inference.spec import SPEC, WEIGHTS
from medseg_nca.serving.jobs.records import Failure, JobOptions


@dataclass(frozen=True)
class ModelInfo:
    """Which model is served: what every result names.

    Attributes:
        key: of its files and their version.
        folder: a copy of its two files, which nobody changes.
        name: that it is served under.
        version: of the registry, or the start of the sha256 of its weights.
        sha256: of its weights.
        spec_sha256: of the file that describes it.
    """

    key: str
    folder: Path
    name: str
    version: str
    sha256: str
    spec_sha256: str

    def check(self) -> None:
        """Compare the copy with what it was when it was made.

        Raises:
            ModelError: if a file was changed, or cannot be read.
        """
        for name, wanted in ((WEIGHTS, self.sha256), (SPEC, self.spec_sha256)):
            if file_sha256(self.folder / name) != wanted:
                raise ModelError(
                    f"{name} of model {self.name} was changed in the folder of the server.",
                    hint="Start the server anew: it copies the model again.",
                )


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits.

    Raises:
        ModelError: if it cannot be read.
    """
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise ModelError(f"{path.name}: cannot be read ({error.strerror}).") from error


@dataclass(frozen=True)
class Load:
    """To a worker: load a model and warm it."""

    model: ModelInfo


@dataclass(frozen=True)
class Run:
    """To a worker: compute a job.

    Attributes:
        job_id: of the job.
        model: that was loaded.
        input: folder of the image.
        out: folder that appears when the results are whole.
        options: how.
        voxels: that an image may have.
    """

    job_id: str
    model: ModelInfo
    input: Path
    out: Path
    options: JobOptions
    voxels: int


@dataclass(frozen=True)
class Cancel:
    """To a worker: leave a job, if it is still at work on it."""

    job_id: str


@dataclass(frozen=True)
class Stop:
    """To a worker: end."""


@dataclass(frozen=True)
class Loaded:
    """From a worker: a model is warm; ``problem`` says why it is not."""

    key: str
    problem: str | None = None


@dataclass(frozen=True)
class Moved:
    """From a worker: how far it is; ``facts`` as those of :class:`medseg_nca.job.Progress`."""

    job_id: str
    phase: str
    done: int
    total: int | None
    facts: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Finished:
    """From a worker: a job has come to its end.

    Attributes:
        job_id: of the job.
        failure: why there is no result; None if it lies in the folder.
        cancelled: whether it was left because it was asked to be.
    """

    job_id: str
    failure: Failure | None = None
    cancelled: bool = False


ToWorker = Load | Run | Cancel | Stop
FromWorker = Loaded | Moved | Finished
