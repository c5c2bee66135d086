"""What every reader checks before and after it reads the voxels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg_nca.errors import ImageError

# 8 GiB: four times the largest volume of the public data sets (a float64 CT of 512 x 512 x 1000).
MAX_BYTES = 2**33
# Deflate never packs more than 1032 bytes into one.
MAX_INFLATION = 1100

_LEAST_VOXEL = 1e-7  # mm, the width of an atom; a shorter axis is a zero with rounding errors

DAMAGED = "The file is damaged or incomplete: copy it again from where it came from."

FLOAT32_MAX = float(np.finfo(np.float32).max)


def check_file(path: Path) -> None:
    """Refuse what is not a readable, non-empty file.

    Raises:
        ImageError: with the path and the reason.
    """
    try:
        if not path.exists():
            raise ImageError(f"{path}: there is no such file.")
        if not path.is_file():
            raise ImageError(f"{path}: is not a file.")
        with path.open("rb") as file:
            empty = not file.read(1)
    except OSError as error:
        raise ImageError(f"{path}: cannot be read ({error.strerror}).") from error
    if empty:
        raise ImageError(f"{path}: is empty.", hint=DAMAGED)


def check_claim(
    path: Path,
    shape: Sequence[int],
    item_bytes: int,
    *,
    compressed: bool,
    offset: int = 0,
    inflation: float = MAX_INFLATION,
) -> None:
    """Compare the size that a header claims with the file, before any memory is taken.

    Args:
        path: the file.
        shape: what the header says, all axes.
        item_bytes: bytes of one value on disk.
        compressed: whether the voxels are packed.
        offset: bytes before the voxels, unpacked.
        inflation: bytes that a packed byte can become at most; that of deflate if not given.

    Raises:
        ImageError: if an axis has no voxels, or the claim is absurd or more than the file holds.
    """
    if any(n < 1 for n in shape):
        raise ImageError(f"{path}: the header gives the size {tuple(shape)}.", hint=DAMAGED)
    claimed = math.prod(int(n) for n in shape) * item_bytes
    size = path.stat().st_size
    possible = max(int(size * (inflation if compressed else 1)) - offset, 0)
    if claimed <= min(possible, MAX_BYTES):
        return
    text = f"the header claims {claimed:,} bytes of voxels, size {tuple(int(n) for n in shape)}"
    if claimed <= possible or claimed > MAX_BYTES:
        raise ImageError(f"{path}: {text}; at most {MAX_BYTES:,} can be read.")
    raise ImageError(f"{path}: is truncated: {text}, the file has {size:,}.", hint=DAMAGED)


def check_values(path: Path, array: NDArray[Any], *, unknown: bool = False) -> None:
    """Refuse values that are not real numbers.

    Args:
        path: the file, for the message.
        array: its values.
        unknown: whether NaN is allowed.

    Raises:
        ImageError: with the number of values that are NaN or infinite.
    """
    if array.dtype.kind not in "biuf":
        raise ImageError(
            f"{path}: has values of type {array.dtype}; real numbers are needed.",
            hint="Save the magnitude, or one file for each part, with your imaging tool.",
        )
    if array.dtype.kind != "f":
        return
    bad = array.size - int(np.count_nonzero(np.isfinite(array)))
    if unknown:
        bad -= int(np.count_nonzero(np.isnan(array)))
    # fmax passes over NaN.
    if (
        not bad
        and array.dtype.itemsize > 4
        and np.fmax.reduce(np.abs(array), axis=None, initial=0) > FLOAT32_MAX
    ):
        raise ImageError(f"{path}: has values beyond the range of float32 ({FLOAT32_MAX:.3g}).")
    if bad:
        raise ImageError(
            f"{path}: {bad:,} of {array.size:,} values are {'' if unknown else 'NaN or '}infinite.",
            hint="Replace them by a number that means 'nothing' in this image, often 0.",
        )


def check_affine(path: Path, affine: NDArray[np.float64]) -> None:
    """Refuse geometry that no voxel grid can have.

    Raises:
        ImageError: if the affine is not finite or an axis has no length.
    """
    if not is_grid(affine):
        raise ImageError(
            f"{path}: the header's geometry cannot be used (affine {affine[:3].tolist()}).",
            hint="Mend the header (qform, sform, spacing, direction) with your imaging tool.",
        )


def is_grid(affine: NDArray[np.float64]) -> bool:
    """Whether an affine can be that of a voxel grid: finite, axes with a length and a volume."""
    if not np.isfinite(affine).all():
        return False
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    return bool(
        lengths.min() > _LEAST_VOXEL and abs(np.linalg.det(affine[:3, :3] / lengths)) >= 1e-3
    )
