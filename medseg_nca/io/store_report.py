"""What an archive says of objects that were sent to it, by STOW-RS or by C-STORE."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class StoreReport:
    """What became of objects that were sent; what is not named was taken.

    Attributes:
        refused: reason by SOPInstanceUID of what was not taken: the failure reason of STOW-RS
            (PS3.18 10.5.3) or the status of C-STORE (PS3.4 B.2.3), or None where none was given.
        notes: sentences for a person on why; they name nothing of a patient.
    """

    refused: dict[str, int | None]
    notes: tuple[str, ...] = ()
