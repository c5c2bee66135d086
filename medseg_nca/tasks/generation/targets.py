"""Read the targets that are grown: the emblem, pictures with alpha, and small volumes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg_nca.errors import ConfigError, ImageError
from medseg_nca.io.picture import rgba_of
from medseg_nca.io.raster import read_picture
from medseg_nca.io.read import read_volume
from medseg_nca.tasks.generation.emblem import draw_emblem
from medseg_nca.tasks.generation.options import EMBLEM, MAX_CELLS, MAX_GRID, GenerationOptions

FloatArray = NDArray[np.float32]
PICTURES = (".png", ".tif", ".tiff", ".webp", ".gif", ".bmp", ".jpg", ".jpeg")
# The margin on each side of a target, as a share of it, if the options name no grid.
_MARGIN = 1 / 8


@dataclass(frozen=True)
class Targets:
    """All targets, on one grid.

    Attributes:
        names: names of the targets, without folders and suffixes.
        array: the targets ``(targets, V, *grid)`` from 0 to 1. V is red, green, blue (multiplied by
            alpha) and alpha; for volumes it is grey (multiplied by alpha) and alpha.
        affine: affine of the grid of volumes, voxel index to RAS+ mm.
    """

    names: tuple[str, ...]
    array: FloatArray
    affine: NDArray[np.float64]

    @property
    def grid(self) -> tuple[int, ...]:
        """The number of cells along each axis."""
        return self.array.shape[2:]

    @property
    def visible(self) -> int:
        """The number of channels V that are the picture."""
        return int(self.array.shape[1])


def load_targets(options: GenerationOptions) -> Targets:
    """Read or draw the targets, and put each into the middle of the grid.

    Raises:
        ImageError: if a file cannot be read, has no alpha channel or an empty one, or is larger
            than the grid.
        ConfigError: if the targets differ in size or kind, or the grid has other axes.
    """
    found = [_load(name, options.size) for name in options.names]
    first, affine = found[0]
    for name, (array, _) in zip(options.names, found, strict=True):
        if array.shape[0] != first.shape[0]:
            raise ConfigError(
                f"options.targets: {options.names[0]} has {first.shape[0]} channels to be seen, "
                f"{name} has {array.shape[0]}.",
                hint="Train pictures and volumes apart.",
            )
        if array.shape != first.shape:
            raise ConfigError(
                f"options.targets: {options.names[0]} has {_size(first.shape[1:])} cells, {name} "
                f"has {_size(array.shape[1:])}.",
                hint="Bring all targets to one size.",
            )
    grid = _grid(options, first.shape[1:])
    laid = [_lay(name, array, grid) for name, (array, _) in zip(options.names, found, strict=True)]
    moved = affine.copy()
    offset = [(g - n) // 2 for g, n in zip(grid, first.shape[1:], strict=True)]
    moved[:3, 3] -= affine[:3, : len(offset)] @ np.array(offset, float)
    names = tuple(_short(name) for name in options.names)
    if len(set(names)) < len(names):
        raise ConfigError(
            "options.targets: two targets have the same name without folder and suffix (letters, "
            "digits, _ and - count).",
            hint="Rename one of the files.",
        )
    return Targets(names, np.stack(laid), moved)


def read_start(path: Path, visible: int, grid: tuple[int, ...]) -> FloatArray:
    """Read a picture or volume ``(V, *grid)`` from which growth goes on.

    Raises:
        ImageError: if the file cannot be read or does not fit the model.
    """
    array = _load(str(path), 0)[0]
    if array.shape[0] != visible or array.ndim - 1 != len(grid):
        kind = "a picture with alpha" if visible == 4 else "a volume"
        raise ImageError(f"{path}: the model grows from {kind}.")
    if array.shape[1:] == grid:
        return array
    return _lay(str(path), array, grid)


def _load(name: str, size: int) -> tuple[FloatArray, NDArray[np.float64]]:
    if name == EMBLEM and size:
        return draw_emblem(size), np.eye(4)
    path = Path(name)
    if not path.exists():
        raise ImageError(
            f"{name}: there is no such target.",
            hint=f"Give {EMBLEM}, a picture with an alpha channel, or a NIfTI or NRRD volume.",
        )
    if path.suffix.lower() in PICTURES:
        return _picture(path), np.eye(4)
    volume = read_volume(path)
    if volume.dims != 3 or volume.channels != 1:
        raise ImageError(
            f"{path}: has {volume.channels} channels on {volume.dims} axes; a target is a picture "
            "with alpha or a volume of one channel."
        )
    return _volume(path, volume.array[0]), volume.affine


def _picture(path: Path) -> FloatArray:
    rgba = rgba_of(path, read_picture(path))
    if rgba is None:
        raise ImageError(
            f"{path}: has no alpha channel, so nothing says where it is alive.",
            hint="Save it with transparency around the object (PNG, RGBA).",
        )
    alpha = rgba[3:]
    _check_alpha(path, alpha)
    return np.concatenate((rgba[:3] * alpha, alpha))


def _volume(path: Path, values: NDArray[Any]) -> FloatArray:
    """Return grey and alpha of a volume, whose voxels above the least value count as object.

    Alpha is 1 in the object. Grey goes from 0.25 to 1, so that the whole object can be told from
    the empty space, which has 0.
    """
    values = values.astype(np.float64)
    low, high = float(values.min()), float(values.max())
    alpha = (values > low).astype(np.float32)[None]
    _check_alpha(path, alpha)
    grey = 0.25 + 0.75 * (values - low) / (high - low)
    return np.concatenate((grey[None].astype(np.float32) * alpha, alpha))


def _check_alpha(path: Path, alpha: FloatArray) -> None:
    if float(alpha.max()) <= 0.1:
        raise ImageError(
            f"{path}: is empty: no cell has an alpha above 0.1 (a volume: no value above its "
            "least one).",
            hint="Choose a target that shows something.",
        )


def _grid(options: GenerationOptions, size: Sequence[int]) -> tuple[int, ...]:
    if options.grid is None:
        grid = tuple(n + 2 * max(round(n * _MARGIN), 1) for n in size)
    elif isinstance(options.grid, int):
        grid = (options.grid,) * len(size)
    else:
        grid = options.grid
    if len(grid) != len(size):
        raise ConfigError(
            f"options.grid has {len(grid)} axes, the target {len(size)}.",
            hint="Give one number for all axes, or one for each.",
        )
    cells = int(np.prod(grid))
    if cells > MAX_CELLS or max(grid) > MAX_GRID:
        raise ConfigError(
            f"A grid of {_size(grid)} has {cells:,} cells; a grown one has at most {MAX_CELLS:,}.",
            hint="Make the target smaller.",
        )
    wrong = [p for p in options.seeds if len(p) != len(grid)]
    if wrong:
        raise ConfigError(
            f"options.seeds: {list(wrong[0])} has {len(wrong[0])} numbers, the grid {len(grid)} "
            "axes."
        )
    return grid


def _lay(name: str, array: FloatArray, grid: tuple[int, ...]) -> FloatArray:
    size = array.shape[1:]
    if any(n > g for n, g in zip(size, grid, strict=True)):
        raise ImageError(
            f"{name}: has {_size(size)} cells and does not fit into the grid of {_size(grid)}.",
            hint="Set a larger options.grid, or make the target smaller.",
        )
    laid = np.zeros((array.shape[0], *grid), np.float32)
    place = tuple(slice((g - n) // 2, (g - n) // 2 + n) for n, g in zip(size, grid, strict=True))
    laid[(slice(None), *place)] = array
    return laid


def _short(name: str) -> str:
    """Return a name that can be the name of a file, as :class:`GenerationFacts` asks for."""
    plain = re.sub(r"[^A-Za-z0-9_-]", "_", Path(name).name.partition(".")[0])
    return plain if plain[:1].isalnum() else f"target{plain}"


def _size(sizes: Sequence[int]) -> str:
    return " x ".join(map(str, sizes))
