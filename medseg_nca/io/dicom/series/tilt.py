"""Bring planes of a tilted gantry onto an upright grid."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from medseg_nca.io.volume import Volume

# In voxels: a shift that exceeds a whole number by less needs no further row.
_WHOLE = 1e-3


def upright(volume: Volume) -> Volume:
    """Resample a sheared volume to axes at right angles; each plane stays where it is.

    Planes are shifted within themselves by linear interpolation; the grid grows until it holds all
    of them, and voxels whose centre lies in no pixel get the lowest value of the volume. Integers
    are rounded.

    Args:
        volume: ``(C, x, y, z)``, its z column is not perpendicular to x and y.
    """
    matrix = volume.affine[:3, :3]
    spacing = np.linalg.norm(matrix[:, :2], axis=0)
    axes = matrix[:, :2] / spacing
    along = axes.T @ matrix[:, 2]
    shift = along / spacing  # voxels in x and y from each plane to the next
    count = volume.shape[2]
    total = shift * (count - 1)
    before = [math.ceil(max(-t, 0.0) - _WHOLE) for t in total]
    after = [math.ceil(max(t, 0.0) - _WHOLE) for t in total]
    size = [n + b + a for n, b, a in zip(volume.shape[:2], before, after, strict=True)]
    fill = volume.array.min()
    array = np.full((volume.array.shape[0], *size, count), fill, volume.array.dtype)
    for k in range(count):
        offset = [-b - s * k for b, s in zip(before, shift, strict=True)]
        for channel in range(array.shape[0]):
            array[channel, :, :, k] = _shifted(volume.array[channel, :, :, k], offset, size, fill)
    affine = volume.affine.copy()
    affine[:3, 2] -= axes @ along
    affine[:3, 3] -= matrix[:, :2] @ np.array(before, dtype=np.float64)
    return Volume(array, affine + 0.0, volume.sources, volume.header)


def _shifted(
    plane: NDArray[np.generic], offset: list[float], size: list[int], fill: np.generic
) -> NDArray[np.float64]:
    """Sample a plane at ``index + offset``; the outer half of an edge pixel has its value."""
    from scipy import ndimage

    result: NDArray[np.float64] = ndimage.affine_transform(
        plane.astype(np.float64),
        np.ones(2),
        offset,
        output_shape=tuple(size),
        order=1,
        mode="nearest",
    )
    places = (np.arange(n) + o for n, o in zip(size, offset, strict=True))
    x, y = (
        (place >= -0.5 - _WHOLE) & (place <= n - 0.5 + _WHOLE)
        for place, n in zip(places, plane.shape, strict=True)
    )
    result[~(x[:, None] & y[None, :])] = float(fill)
    return result if plane.dtype.kind == "f" else np.rint(result)
