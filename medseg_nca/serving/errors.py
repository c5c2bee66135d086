"""From an error of the library to what a client is told: a status, and text without a path."""

from __future__ import annotations

import re
from pathlib import Path

from medseg_nca.errors import (
    ConfigError,
    DataError,
    DependencyError,
    ImageError,
    MedsegError,
    MemoryBudgetError,
    NonFiniteStateError,
    OutputError,
)
from medseg_nca.io.dicomweb.errors import DicomWebError, Trouble
from medseg_nca.serving.jobs.records import Failure


class TooLarge(ImageError):  # noqa: N818
    """An image, an archive or a body is larger than this server takes."""


class Refused(MedsegError):  # noqa: N818
    """A request cannot be served; it carries the HTTP status.

    Args:
        status: the HTTP status.
        message: what is wrong.
        hint: the next step.
        retry_after: seconds after which it may be tried again.
    """

    def __init__(
        self, status: int, message: str, *, hint: str | None = None, retry_after: int | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.status, self.retry_after = status, retry_after


# The first that fits counts.
_STATUS: tuple[tuple[type[Exception], int], ...] = (
    (TooLarge, 413),
    (MemoryBudgetError, 413),
    (MemoryError, 413),
    (NonFiniteStateError, 422),
    (DependencyError, 501),
    (DataError, 422),
    (ConfigError, 422),
    (OutputError, 507),
    (MedsegError, 503),
)
_TELL = "Tell who runs the server; its log says why."
# What clients are told of the DICOMweb server of the images: not its address, nor how it is asked.
_PACS: dict[Trouble, tuple[int, str, str]] = {
    "unreachable": (502, "The DICOMweb server of the images cannot be reached.", _TELL),
    "slow": (504, "The DICOMweb server of the images did not answer in time.", "Ask again later."),
    "busy": (503, "The DICOMweb server of the images is busy.", "Ask again later."),
    "faulty": (502, "The DICOMweb server of the images has a fault.", _TELL),
    "unauthorised": (502, "The DICOMweb server of the images does not let this server in.", _TELL),
    "missing": (404, "The DICOMweb server of the images has no such series any more.",
                "Look for it there."),
    "incomplete": (502, "The DICOMweb server of the images sends fewer instances than it says the "
                   "series has.", "Ask again when the archive has the whole series."),
    "wrong": (502, "The DICOMweb server of the images answers with what it was not asked for.",
              _TELL),
    "too-large": (413, "The series is larger than this server takes.", _TELL),
}  # fmt: skip
_PATH = re.compile(r"(?<![\w.:/])/(?:[^\s/:'\",;()]+/)+([^\s/:'\",;()]*)")
_COMMAND = re.compile(r"medseg-nca |--[a-z]")
FAULT = "The server has a fault and cannot compute this image."
FAULT_HINT = "Tell who runs the server; its log has an entry for this job."


def failure_of(error: BaseException, folder: Path | None = None) -> Failure:
    """Say what a client is told of an error.

    Args:
        error: whatever was raised.
        folder: of the input, whose name is taken out of the text.
    """
    status = next((code for kind, code in _STATUS if isinstance(error, kind)), 500)
    if isinstance(error, Refused):
        return Failure(error.status, error.message, error.hint)
    if isinstance(error, DicomWebError):
        return Failure(*_PACS[error.trouble])
    if isinstance(error, TooLarge):
        return Failure(413, error.message, error.hint)
    if status == 500:
        return Failure(500, FAULT, FAULT_HINT)
    if isinstance(error, MemoryError):
        return Failure(413, "The image needs more memory than there is.", "Send a smaller one.")
    message = error.message if isinstance(error, MedsegError) else str(error)
    hint = error.hint if isinstance(error, MedsegError) else None
    if hint is not None and _COMMAND.search(hint):
        hint = None  # for the command line, which who asks over HTTP does not have
    return Failure(status, clean(message, folder), None if hint is None else clean(hint, folder))


def clean(text: str, folder: Path | None = None) -> str:
    """Take paths of this machine out of a text; the names of files stay."""
    if folder is not None:
        text = text.replace(f"{folder}/", "").replace(str(folder), "the input")
    return _PATH.sub(lambda match: match[1] or "a folder", text)
