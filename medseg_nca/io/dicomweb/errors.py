"""What can go wrong with a DICOMweb server."""

from __future__ import annotations

from typing import Literal

from medseg_nca.errors import MedsegError

Trouble = Literal[
    "unreachable", "slow", "busy", "faulty", "unauthorised", "missing", "incomplete", "wrong",
    "too-large",
]  # fmt: skip


class DicomWebError(MedsegError):
    """A DICOMweb server did not do what it was asked for.

    Args:
        trouble: ``unreachable``: no connection, or it broke. ``slow``: no answer in time. ``busy``:
            it says so (429, 503). ``faulty``: it has a fault (500). ``unauthorised``: it refuses
            the credentials. ``missing``: it has no such thing. ``incomplete``: it sends less than
            it says there is. ``wrong``: its answer is none that DICOMweb knows, or not what was
            asked for. ``too-large``: it sends more than is allowed, or takes no object of that
            size.
        message: what is wrong; it names the server, and nothing of a patient.
        hint: the next step.
    """

    def __init__(self, trouble: Trouble, message: str, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.trouble = trouble

    @property
    def passes(self) -> bool:
        """Whether the same request may succeed later."""
        return self.trouble in ("unreachable", "slow", "busy", "faulty")
