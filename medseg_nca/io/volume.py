"""The array with its geometry that every reader returns and every writer takes."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


class OnGrid(Protocol):
    """What is known of an image without its values: see :class:`Volume`."""

    @property
    def affine(self) -> NDArray[np.float64]:
        """4x4, voxel index to RAS+ millimetres."""

    @property
    def sources(self) -> tuple[Path, ...]:
        """The file or files that it came from."""

    @property
    def header(self) -> dict[str, Any]:
        """See :class:`Volume`."""

    @property
    def channels(self) -> int:
        """How many values a voxel has."""

    @property
    def dims(self) -> int:
        """2 or 3: the number of spatial axes."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Spatial shape in array order, without the channel axis."""

    @property
    def spacing(self) -> tuple[float, ...]:
        """Voxel size in mm per array axis."""


@dataclass(frozen=True)
class Volume:
    """An image or label map on its grid.

    Attributes:
        array: ``(C, x, y, z)`` or ``(C, x, y)``; a label map has C = 1 and an integer dtype.
        affine: 4x4, voxel index (x, y, z) to RAS+ millimetres. A 2D image uses the first two axes.
        sources: the file or files that it came from.
        header: what the writer of the same format needs to give back the same header. It may hold
            what identifies a patient: it is never logged.
    """

    array: NDArray[Any]
    affine: NDArray[np.float64]
    sources: tuple[Path, ...] = ()
    header: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def channels(self) -> int:
        """How many values a voxel has."""
        return int(self.array.shape[0])

    @property
    def name(self) -> str:
        """What messages call it: its first file."""
        return str(self.sources[0]) if self.sources else "the volume"

    @property
    def dims(self) -> int:
        """2 or 3: the number of spatial axes."""
        return self.array.ndim - 1

    @property
    def shape(self) -> tuple[int, ...]:
        """Spatial shape in array order, without the channel axis."""
        return self.array.shape[1:]

    @property
    def spacing(self) -> tuple[float, ...]:
        """Voxel size in mm per array axis."""
        return spacing_of(self.affine, self.dims)

    def with_array(self, array: NDArray[Any]) -> Volume:
        """The same grid and header with other values, ``(C, *shape)``."""
        return replace(self, array=array)


def spacing_of(affine: NDArray[np.float64], dims: int) -> tuple[float, ...]:
    """Voxel size in mm along the first axes of a grid."""
    return tuple(float(v) for v in np.linalg.norm(affine[:3, :3], axis=0)[:dims])
