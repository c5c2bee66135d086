"""What is known of a job."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Self

State = Literal["queued", "running", "done", "failed", "cancelled"]
FINISHED: tuple[State, ...] = ("done", "failed", "cancelled")
# A job that was at work when its worker or the server died is tried once more.
MOST_ATTEMPTS = 2
_ID = re.compile(r"[A-Za-z0-9_-]{22}")


def new_id() -> str:
    """128 random bits, in letters that a URL and a folder may have."""
    return secrets.token_urlsafe(16)


def is_id(text: str) -> bool:
    """Whether a text can be an id; nothing else becomes part of a path."""
    return _ID.fullmatch(text) is not None


@dataclass(frozen=True)
class JobOptions:
    """How an image is to be predicted.

    Attributes:
        kind: of the upload: "image" (files of one image) or "dicom" (files of series).
        format: of the label map (:func:`medseg_nca.io.write.result_formats`); "" is the input's
            own, and NIfTI for DICOM.
        objects: DICOM objects to make; without any it is "dicom-seg" for DICOM, and "none" is none.
        probabilities: whether those of each label are wanted.
        uncertainty: stochastic passes; 0 makes no map of uncertainty.
        image: whether the image is kept with the results, as a file that a viewer takes.
        select: which DICOM series, see :func:`medseg_nca.io.dicom.select.parse_selection`.
        destinations: names of those that get the DICOM objects when the job has ended.
        notice: which DICOM object says why a job failed: "sr" (a text), "sc" (a picture of that
            text), "" for none.
        export: suffix of one more file of the label map (:mod:`medseg_nca.serving.label_file`), ""
            for none.
        export_dtype: of its numbers; "" is the smallest that holds them.
        export_compress: whether it is packed.
        note: a few words for the descriptions of DICOM results, such as "version 2".
        attempts: how often it is begun at most where the server is killed meanwhile.
        acceptable: Dice below which a mask counts as bad; None keeps the model's setting.
        miss_rate: share of bad masks that may be accepted; None keeps the model's setting.
        hold_rejected: whether objects of a rejected result wait until a person delivers them.
    """

    kind: Literal["image", "dicom"] = "image"
    format: str = ""
    objects: tuple[str, ...] = ()
    probabilities: bool = False
    uncertainty: int = 0
    image: bool = False
    select: str = ""
    destinations: tuple[str, ...] = ()
    notice: Literal["", "sr", "sc"] = ""
    export: str = ""
    export_dtype: str = ""
    export_compress: bool = True
    note: str = ""
    attempts: int = MOST_ATTEMPTS
    acceptable: float | None = None
    miss_rate: float | None = None
    hold_rejected: bool = False

    @classmethod
    def from_tree(cls, tree: Mapping[str, Any]) -> Self:
        """Read what ``to_tree`` made."""
        lists = {name: tuple(tree.get(name, ())) for name in ("objects", "destinations")}
        return cls(**{**tree, **lists})

    def to_tree(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Failure:
    """Why a job has no result.

    Attributes:
        status: the HTTP status that it stands for: 422 an image that cannot be used, 413 too large,
            504 the deadline, 503 the worker died.
        detail: what is wrong, without a path of this machine.
        hint: the next step.
    """

    status: int
    detail: str
    hint: str | None = None

    def to_tree(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def stopped(attempts: int) -> Failure:
    """Return why a job is not begun once more after so many attempts."""
    often = {1: "once", 2: "twice"}.get(attempts, f"{attempts} times")
    return Failure(
        503, f"The server or its worker stopped {often} while it computed this image.",
        "Perhaps the image needs more memory than the machine has; try a smaller one.",
    )  # fmt: skip


@dataclass(frozen=True)
class JobProgress:
    """How far the job at work is: ``done`` of ``total`` within a phase.

    ``facts`` names the level of the automaton, of how many levels, and its step, where known.
    """

    phase: str
    done: int
    total: int | None
    facts: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class JobRecord:
    """One job, as the store knows it.

    Attributes:
        id: random; it is the name of the job's folder too.
        number: counts all jobs; those with lower numbers are computed first.
        owner: name of the user; "" where there are no users.
        model: the name that the model is served under.
        state: where it stands.
        options: how it is to be predicted.
        created: seconds since 1970, as the next two.
        attempts: how often a worker began it.
        started: when a worker began it last.
        finished: when it came to its end.
        result: of a job that is done: model, files, labels, warnings, seconds. Of one that failed:
            its notice, where one was asked for; ``{"notice": {}}`` where none could be made.
        failure: of a job that failed or was cancelled.
        bytes: that its folder takes.
        series: what the audit log calls the image by.
    """

    id: str
    number: int
    owner: str
    model: str
    state: State
    options: JobOptions
    created: float
    attempts: int = 0
    started: float | None = None
    finished: float | None = None
    result: Mapping[str, Any] = field(default_factory=dict)
    failure: Failure | None = None
    bytes: int = 0
    series: str = ""

    @property
    def is_finished(self) -> bool:
        """Whether nothing more will become of it."""
        return self.state in FINISHED

    @property
    def verdict(self) -> str:
        """On the quality of its result; "" if it has none, "unknown" if an older server made it."""
        if self.state != "done":
            return ""
        return str((self.result.get("estimate") or {}).get("verdict", "unknown"))

    @property
    def is_held(self) -> bool:
        """Whether its objects go nowhere before a person delivers them."""
        options = self.options
        return self.verdict == "reject" and options.hold_rejected and bool(options.destinations)


def record_of(row: Mapping[str, Any]) -> JobRecord:
    """A job from its row in the database."""
    failure = row["failure"]
    return JobRecord(
        id=row["id"], number=row["number"], owner=row["owner"], model=row["model"],
        state=row["state"], options=JobOptions.from_tree(json.loads(row["options"])),
        created=row["created"], attempts=row["attempts"], started=row["started"],
        finished=row["finished"], result=json.loads(row["result"]),
        failure=None if failure is None else Failure(**json.loads(failure)),
        bytes=row["bytes"], series=row["series"],
    )  # fmt: skip
