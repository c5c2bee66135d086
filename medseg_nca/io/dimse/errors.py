"""What can go wrong between two DICOM applications that exchange messages."""

from __future__ import annotations

from typing import Literal

from medseg_nca.errors import MedsegError

Trouble = Literal[
    "unreachable", "slow", "busy", "faulty", "refused", "unauthorised", "unsupported", "wrong",
    "missing", "incomplete", "too-large",
]  # fmt: skip


class DimseError(MedsegError):
    """A DICOM application did not do what it was asked for.

    Args:
        trouble: ``unreachable``: no connection, or it broke. ``slow``: no answer in time. ``busy``:
            it says so. ``faulty``: it says that it has a fault. ``refused``: it does not want to.
            ``unauthorised``: it does not know the AE title or the certificate of this side, or this
            side does not trust its certificate. ``unsupported``: it does not offer what is asked
            for. ``wrong``: it does not speak DICOM, or not as it should. ``missing``: it has no
            such thing. ``incomplete``: it sends less than it says there is. ``too-large``: it sends
            more than is allowed.
        message: what is wrong; it names the application, and nothing of a patient.
        hint: the next step.
    """

    def __init__(self, trouble: Trouble, message: str, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.trouble = trouble

    @property
    def passes(self) -> bool:
        """Whether the same request may succeed later."""
        return self.trouble in ("unreachable", "slow", "busy", "faulty")
