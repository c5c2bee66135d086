"""A mask held as the compressed bits of its bounding box."""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class PackedMask:
    """Where a mask is true; a hundred organs of a whole body fit where one full mask did.

    Attributes:
        start: index of the first voxel of the bounding box, per axis.
        size: voxels of the bounding box, per axis; all 0 where the mask is empty.
        voxels: how many voxels are true.
        bits: the box, eight voxels a byte, deflated.
    """

    start: tuple[int, ...]
    size: tuple[int, ...]
    voxels: int
    bits: bytes = field(repr=False)

    @classmethod
    def pack(cls, mask: NDArray[Any], start: tuple[int, ...] | None = None) -> Self:
        """Keep a mask of any dimension.

        Args:
            mask: bool; may be a part of the whole.
            start: where the part's first voxel lies in the whole.
        """
        offset = (0,) * mask.ndim if start is None else start
        box = _bounding_box(mask)
        if box is None:
            return cls(offset, (0,) * mask.ndim, 0, b"")
        part = mask[box]
        return cls(
            tuple(first + side.start for first, side in zip(offset, box, strict=True)),
            part.shape,
            int(np.count_nonzero(part)),
            zlib.compress(np.packbits(part).tobytes(), 1),
        )

    @property
    def box(self) -> tuple[slice, ...]:
        """The bounding box as an index into the whole."""
        return tuple(slice(a, a + n) for a, n in zip(self.start, self.size, strict=True))

    def part(self) -> NDArray[np.bool_]:
        """The mask inside its bounding box."""
        count = math.prod(self.size)
        if not count:
            return np.zeros(self.size, bool)
        bits = np.frombuffer(zlib.decompress(self.bits), np.uint8)
        return np.unpackbits(bits, count=count).reshape(self.size).view(bool)

    def paint(self, target: NDArray[Any], value: Any) -> None:
        """Set ``value`` where the mask is true; ``target`` is the whole."""
        if self.voxels:
            target[self.box][self.part()] = value


def _bounding_box(mask: NDArray[Any]) -> tuple[slice, ...] | None:
    box = []
    for axis in range(mask.ndim):
        others = tuple(i for i in range(mask.ndim) if i != axis)
        used = np.flatnonzero(mask.any(axis=others))
        if not len(used):
            return None
        box.append(slice(int(used[0]), int(used[-1]) + 1))
    return tuple(box)
