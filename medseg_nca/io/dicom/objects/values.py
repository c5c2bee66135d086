"""Values as DICOM wants them: texts, numbers and UIDs of written objects (PS3.5 6.2)."""

from __future__ import annotations

import logging
import math
import re
import unicodedata
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from medseg_nca.io.dicom.quiet import quiet

# VR SH holds 16 characters, LO 64.
SHORT, LONG = 16, 64
_SEEDS = uuid.UUID("6a2b9d5c-0f7e-5c1b-9d55-6d6564736567")
UTF_8 = "ISO_IR 192"


def text(value: str, limit: int = LONG) -> str:
    """Return a text as one value of VR LO or SH: no control characters, no backslash, cut."""
    kept = (" " if unicodedata.category(c).startswith("C") else c for c in value)
    return "".join(kept).replace("\\", "/").strip()[:limit].rstrip()


def decimals(values: Iterable[float], digits: int = 4) -> list[str]:
    """Return numbers as decimal strings of at most 16 characters (VR DS).

    Args:
        values: numbers below 1e9 in size.
        digits: wanted digits after the point; fewer are given where they do not fit.
    """
    return [_decimal(float(value), digits) for value in values]


def exact_decimals(values: Iterable[float]) -> list[str]:
    """Return numbers as decimal strings with as many digits as 16 characters hold (VR DS)."""
    from pydicom.valuerep import format_number_as_ds

    return [format_number_as_ds(float(value)) for value in values]


def new_uid(*seed: object) -> str:
    """Return a UID that is new, or always the same for the same seed values (PS3.5 B.2)."""
    if not seed:
        return f"2.25.{uuid.uuid4().int}"
    return f"2.25.{uuid.uuid5(_SEEDS, chr(0).join(map(str, seed))).int}"


def is_uid(value: str) -> bool:
    """Tell whether a text is a UID (PS3.5 9.1)."""
    return len(value) <= 64 and bool(re.fullmatch(r"(0|[1-9]\d*)(\.(0|[1-9]\d*))+", value))


@contextmanager
def quiet_writing() -> Iterator[None]:
    """Write with pydicom and highdicom silently: values of the source that break a rule are copied.

    Their warnings quote such values, a patient's name among them; the check tells of them.
    """
    logger = logging.getLogger("highdicom")
    with quiet():
        level = logger.level
        logger.setLevel(logging.CRITICAL + 1)
        try:
            yield
        finally:
            logger.setLevel(level)


def _decimal(value: float, digits: int) -> str:
    for count in range(digits, -1, -1):
        string = f"{value:.{count}f}"
        if "." in string:
            string = string.rstrip("0").rstrip(".")
        if len(string) <= 16:
            return "0" if string == "-0" else string
    raise ValueError(f"{value} does not fit into a decimal string")


def digits_for(spacing: float) -> int:
    """Return how many digits after the point keep a position within a thousandth of a voxel."""
    return max(4, 3 - math.floor(math.log10(spacing)))
