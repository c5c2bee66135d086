"""A volume that comes slice by slice and never lies in memory as a whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg_nca.io.integers import holding
from medseg_nca.io.volume import spacing_of


@dataclass(frozen=True)
class Slices:
    """A grey volume on its grid.

    Attributes:
        shape: x, y, z.
        affine: as of a :class:`~medseg_nca.io.volume.Volume`.
        read: gives the slices ``(x, y)`` along z; each has a type of its own. May be called again.
        dtype: that all slices probably fit.
        sources: the files.
        header: as of a volume.
    """

    shape: tuple[int, int, int]
    affine: NDArray[np.float64]
    read: Callable[[], Iterator[NDArray[Any]]]
    dtype: np.dtype[Any]
    sources: tuple[Path, ...] = ()
    header: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def channels(self) -> int:
        """One."""
        return 1

    @property
    def dims(self) -> int:
        """Three."""
        return 3

    @property
    def spacing(self) -> tuple[float, ...]:
        """Voxel size in mm per axis."""
        return spacing_of(self.affine, 3)


class Narrowest:
    """The type for all values that were shown to it.

    The smallest of uint8, int16, uint16, int32; float32 for fractions and beyond 32 bits.
    """

    def __init__(self) -> None:
        self._low = self._high = 0
        self._real = False

    def add(self, values: NDArray[Any]) -> None:
        """Look at more values."""
        if values.dtype.kind == "f":
            self._real = True
        elif not self._real:
            self._low = min(self._low, int(values.min()))
            self._high = max(self._high, int(values.max()))

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type so far; uint8 if nothing was seen."""
        single = np.dtype(np.float32)
        return single if self._real else next(holding(self._low, self._high), single)

    def fits(self, dtype: np.dtype[Any]) -> bool:
        """Whether a type holds all values so far."""
        return dtype.kind == "f" or bool(np.can_cast(self.dtype, dtype))
