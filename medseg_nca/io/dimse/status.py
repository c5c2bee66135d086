"""The statuses of C-FIND, C-GET and C-MOVE that mean a refusal (PS3.4 C.4, PS3.7 annex C)."""

from __future__ import annotations

from medseg_nca.io.dimse.errors import DimseError, Trouble

_KNOWN: dict[int, tuple[Trouble, str]] = {
    0xA700: ("busy", "is out of resources"),
    0xA701: ("busy", "is out of resources to count the matches"),
    0xA702: ("faulty", "could send nothing of it"),
    0xA801: ("refused", "does not know where to send"),
    0xA900: ("faulty", "does not understand what it is asked for"),
    0xFE00: ("faulty", "has cancelled the request"),
    0x0122: ("unsupported", "does not offer this"),
    0x0124: ("unauthorised", "does not allow this"),
    0x0211: ("unsupported", "does not know this operation"),
}


def refusal_of(name: str, what: str, status: int) -> DimseError:
    """The error that a final status means.

    Args:
        name: of the archive.
        what: was asked for, for example ``C-FIND``.
        status: of the answer.
    """
    trouble, text = _KNOWN.get(status, ("faulty", "could not do this"))
    return DimseError(
        trouble, f"{name}: {text} ({what}, status 0x{status:04X}).",
        hint="Ask again later." if trouble == "busy" else "Look into its log.",
    )  # fmt: skip
