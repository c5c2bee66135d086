"""The integer types that images are kept in."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

# The order in which a type is looked for; the first that holds all values is taken.
INTEGERS = tuple(np.dtype(name) for name in ("uint8", "int16", "uint16", "int32"))


def holding(low: int, high: int) -> Iterator[np.dtype[Any]]:
    """Those of uint8, int16, uint16, int32 that hold these values, the smallest first."""
    for dtype in INTEGERS:
        info = np.iinfo(dtype)
        if info.min <= low and high <= info.max:
            yield dtype
