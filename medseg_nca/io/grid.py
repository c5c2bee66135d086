"""Whether two volumes lie on the same voxel grid."""

from __future__ import annotations

from itertools import product

import numpy as np

from medseg_nca.io.volume import Volume

# Headers are often rounded to three or four digits; a tenth of a voxel changes no result.
TOLERANCE_VOXELS = 0.1


def grid_difference(first: Volume, second: Volume) -> str | None:
    """Say how the grids of two volumes differ, or None when they are the same.

    The same means: equal shape, and no corner voxel is more than a tenth of the smallest voxel
    edge away from its counterpart.
    """
    if first.shape != second.shape:
        return f"shape {first.shape} and {second.shape}"
    corners = np.array(list(product(*((0, n - 1) for n in first.shape))), dtype=float)
    padded = np.zeros((len(corners), 4))
    padded[:, : first.dims] = corners
    padded[:, 3] = 1
    shift = padded @ (first.affine - second.affine).T
    distance = float(np.linalg.norm(shift, axis=1).max())
    turned = np.abs(first.affine[:3, :3] - second.affine[:3, :3]).max()
    limit = TOLERANCE_VOXELS * min(*first.spacing, *second.spacing)
    if distance <= limit and turned <= limit:
        return None
    return f"affine, by {distance:.3g} mm at a corner"
