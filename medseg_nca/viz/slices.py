"""Which part of an image is shown, and how its numbers become grey."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

BoolArray = NDArray[np.bool_]


@dataclass(frozen=True)
class Cut:
    """A 2D cut through an image.

    Attributes:
        axis: that is cut across; None for a 2D image.
        index: of the slice on that axis.
        dims: number of axes of the image.
    """

    axis: int | None
    index: int
    dims: int

    def of(self, array: NDArray[Any]) -> NDArray[Any]:
        """The slice of an array ``(*S)`` or ``(..., *S)``, spatial axes last."""
        if self.axis is None:
            return array
        cut: NDArray[Any] = array.take(self.index, axis=array.ndim - self.dims + self.axis)
        return cut

    @property
    def axes(self) -> tuple[int, int]:
        """The spatial axes that the slice keeps, the horizontal one first."""
        first, second = (axis for axis in range(self.dims) if axis != self.axis)
        return first, second


def centre_planes(mask: BoolArray) -> list[Cut]:
    """Three orthogonal slices through the centre of a mask; the whole of a 2D image.

    The centre is the voxel of the mask next to its centre of mass, so that the slices meet the mask
    even where it is bent. Without a mask it is the middle of the image.
    """
    if mask.ndim == 2:
        return [Cut(None, 0, 2)]
    points = np.argwhere(mask)
    if len(points):
        centre = points[np.argmin(((points - points.mean(axis=0)) ** 2).sum(axis=1))]
    else:
        centre = np.array(mask.shape) // 2
    return [Cut(axis, int(centre[axis]), 3) for axis in reversed(range(3))]


def fullest_plane(mask: BoolArray) -> Cut:
    """The slice with the most of a mask on it, over all axes; the whole of a 2D image."""
    if mask.ndim == 2:
        return Cut(None, 0, 2)
    best = Cut(2, mask.shape[2] // 2, 3)
    most = 0
    for axis in reversed(range(3)):
        counts = mask.sum(axis=tuple(a for a in range(3) if a != axis))
        if counts.max() > most:
            best, most = Cut(axis, int(counts.argmax()), 3), int(counts.max())
    return best


def window_around(mask: BoolArray, margin: float = 0.6, smallest: int = 24) -> tuple[slice, slice]:
    """The part of a slice that is worth showing: the mask's box and a margin around it.

    Args:
        mask: of the slice.
        margin: on each side, as a share of the box's longer side.
        smallest: number of pixels that are shown at least, where there are as many.
    """
    spans = [np.flatnonzero(mask.any(axis=1 - axis)) for axis in (0, 1)]
    if not all(len(span) for span in spans):
        return slice(0, mask.shape[0]), slice(0, mask.shape[1])
    longest = max(int(span[-1] - span[0] + 1) for span in spans)
    around = max(int(np.ceil(longest * margin)), 4, (smallest - longest + 1) // 2)
    limits = [
        slice(max(int(span[0]) - around, 0), min(int(span[-1]) + 1 + around, size))
        for span, size in zip(spans, mask.shape, strict=True)
    ]
    return limits[0], limits[1]


def to_picture(
    image: NDArray[Any], plane: Cut, low: float = 0.5, high: float = 99.5
) -> NDArray[np.float32]:
    """Turn a slice into grey or colour values between 0 and 1.

    Args:
        image: ``(C, *S)``. Three channels in 2D are shown as colours, otherwise the first is shown.
        plane: what to show of it.
        low: percentile of the whole channel that becomes black.
        high: percentile that becomes white.

    Returns:
        ``(a, b)`` or ``(a, b, 3)``.
    """
    colours = plane.dims == 2 and image.shape[0] == 3
    shown = image[:3] if colours else image[:1]
    values = shown[np.isfinite(shown)]
    black, white = np.percentile(values, [low, high]) if values.size else (0.0, 1.0)
    grey = (plane.of(shown).astype(np.float32) - black) / max(float(white - black), 1e-12)
    grey = np.nan_to_num(np.clip(grey, 0, 1))
    picture = np.moveaxis(grey, 0, -1) if colours else grey[0]
    return np.asarray(picture, dtype=np.float32)


def to_colours(image: NDArray[Any], plane: Cut) -> NDArray[np.float32]:
    """Turn a slice into colours ``(a, b, 3)``, grey where the image has none; see to_picture."""
    picture = to_picture(image, plane)
    return picture if picture.ndim == 3 else np.repeat(picture[..., None], 3, axis=2)
