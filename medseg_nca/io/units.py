"""How many millimetres the units are that headers give their lengths in."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from medseg_nca.errors import ImageError

_MICRO = ("u", "\u00b5", "\u03bc")  # typed as a letter, as the micro sign and as the Greek mu
_MILLIMETRES = {
    1e-6: ("nm", "nanometer", "nanometre"),
    1e-3: (*(f"{sign}m" for sign in _MICRO), "micron", "micrometer", "micrometre"),
    1.0: ("mm", "millimeter", "millimetre"),
    10.0: ("cm", "centimeter", "centimetre"),
    25.4: ("in", "inch", "inches"),
    1000.0: ("m", "meter", "metre"),
}
_UNNAMED = ("", "?", "???", "none", "unknown")  # taken for millimetres, as all readers do


def millimetres(path: Path, field: str, units: Sequence[str]) -> float:
    """How many millimetres the unit of a header's lengths is; 1 where it names none.

    Args:
        path: the file, for errors.
        field: the header's field that names them, for errors.
        units: a word for each axis.

    Raises:
        ImageError: if one is no known unit of length, or they differ.
    """
    factors = {_factor(path, field, unit) for unit in units} or {1.0}
    if len(factors) > 1:
        raise ImageError(
            f"{path}: has axes in different units ({field}: {', '.join(units)}).",
            hint="Save it with one unit for all axes, best mm.",
        )
    return factors.pop()


def _factor(path: Path, field: str, unit: str) -> float:
    word = unit.strip().lower()
    if word in _UNNAMED:
        return 1.0
    for factor, words in _MILLIMETRES.items():
        if word in words or word.removesuffix("s") in words:
            return factor
    known = ", ".join(words[0] for words in _MILLIMETRES.values())
    raise ImageError(
        f"{path}: gives its lengths in {unit!r} ({field}), which is no known unit.",
        hint=f"Known are {known}: mend the header with your imaging tool.",
    )
