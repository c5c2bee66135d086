"""The error that carries the reason why a DICOM file or series cannot be used."""

from __future__ import annotations

from pathlib import Path

from medseg_nca.errors import ImageError
from medseg_nca.io.dicom.records import Problem

COPY_AGAIN = "The file is damaged or incomplete: export it again from where it came from."


class DicomError(ImageError):
    """A DICOM file or series cannot be used; ``problem`` says why in a word and in a sentence."""

    def __init__(self, problem: Problem, *, hint: str | None = None) -> None:
        super().__init__(problem.message, hint=hint)
        self.problem = problem

    def __reduce__(self) -> tuple[object, ...]:
        """Make the error again from its problem, in another process."""
        return _rebuild, (self.problem, self.hint)


def refusal(kind: str, path: Path, text: str, *, hint: str | None = None) -> DicomError:
    """The error for one file; its message is ``PATH: TEXT``."""
    return DicomError(Problem(kind, f"{path}: {text}"), hint=hint)


def damaged(path: Path, text: str) -> DicomError:
    """The error for a file that breaks the rules of its format."""
    return refusal("damaged", path, text, hint=COPY_AGAIN)


def truncated(path: Path, text: str) -> DicomError:
    """The error for a file that ends before what its header announces."""
    return refusal("truncated", path, f"is truncated: {text}", hint=COPY_AGAIN)


def too_large(path: Path, text: str) -> DicomError:
    """The error for a file that would take more memory than any medical image needs."""
    return refusal(
        "too-large", path, text, hint="A file that claims more than it holds is damaged or hostile."
    )


def _rebuild(problem: Problem, hint: str | None) -> DicomError:
    return DicomError(problem, hint=hint)
