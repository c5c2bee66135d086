"""A made-up image that a model can take, so that the first click on the page shows a result.

In 3D it is a curved body in two parts, thick in front and thin behind, with a bright rim and a dark
cleft beside it, in mottled tissue: roughly a hippocampus in a T1-weighted MRI. Its numbers are
chosen such that ``zoo:hippocampus`` finds both parts; they say nothing about how good a model is.
In 2D it is bright discs on a dark ground, as nuclei in fluorescence.
"""

from __future__ import annotations

import gzip
import io
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from medseg_nca.config.plan import PreprocessPlan
from medseg_nca.inference.spec import ModelSpec
from medseg_nca.serving.errors import Refused

Array = NDArray[np.float64]

_SEED = 39
_SMALLEST, _LARGEST = 24, 96  # voxels an axis of the volume
_PICTURE = 256  # pixels an axis
# Grey values of the volume: tissue, its mottling, bright rim, body, cleft.
_TISSUE, _MOTTLED, _RIM, _BODY, _CLEFT = 68.0, 30.0, 92.0, 52.0, 18.0
_CLEFTS = (((0.18, 0.66, 0.14), (0.05, 0.16, 0.10)), ((0.41, 0.45, 0.51), (0.05, 0.30, 0.06)))


@dataclass(frozen=True)
class MadeUpImage:
    """A file: its name, its media type and its content."""

    name: str
    type: str
    content: bytes


def make_sample(spec: ModelSpec) -> MadeUpImage:
    """Make the image for a model; the same one each time.

    Raises:
        Refused: with 404 if there is none for its number of channels.
    """
    return _sample(spec.plan.dims, len(spec.plan.channels), _shape(spec.plan), _steps(spec.plan))


@lru_cache(maxsize=8)
def _sample(
    dims: int, channels: int, shape: tuple[int, ...], steps: tuple[float, ...]
) -> MadeUpImage:  # fmt: skip
    if dims == 3:
        return MadeUpImage(
            "sample.nii.gz", "application/gzip", _nifti(_volume(shape), channels, steps)
        )
    if channels in (1, 3):
        return MadeUpImage("sample.png", "image/png", _png(_picture(), channels))
    raise Refused(404, f"There is no made-up picture with {channels} channels.")


def _shape(plan: PreprocessPlan) -> tuple[int, ...]:
    return tuple(min(max(size, _SMALLEST), _LARGEST) for size in plan.crop_size)


def _steps(plan: PreprocessPlan) -> tuple[float, ...]:
    return tuple(float(step) for step in plan.usual_spacing)


def _volume(shape: tuple[int, ...]) -> Array:
    """Grey values ``(x, y, z)``, in RAS."""
    random = np.random.default_rng(_SEED)
    axes = [(np.arange(size) + 0.5) / size for size in shape]
    place = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    distance = _from_body(place, shape)
    mottled, fine = (_field(random, shape, width) for width in (4.45, 1.0))
    grey = _TISSUE + _MOTTLED * mottled + 28 * (place[..., 2] - 0.5)
    grey += 0.48 * np.exp(-(((distance - 1.5) / 0.3) ** 2)) * (_RIM - grey)
    grey += (_BODY - grey) / (1 + np.exp((distance - 1) * 14))
    for centre, axis in _CLEFTS:
        away = np.linalg.norm((place - centre) / np.array(axis), axis=-1)
        grey += (_CLEFT - grey) / (1 + np.exp(((away - 1) * 6).clip(max=50)))
    return np.asarray((grey + 5 * fine + 2 * random.normal(size=shape)).clip(0, 255))


def _from_body(place: Array, shape: tuple[int, ...]) -> Array:
    """How far each voxel is from the middle line of the body, in radii of the body there."""
    line = np.linspace(0, 1, 50)
    middle = np.stack(
        [0.43 + 0.07 * line, 0.76 - 0.58 * line, 0.28 + 0.30 * line + 0.013 * np.sin(np.pi * line)],
        axis=-1,
    )
    radii = shape[0] * (0.198 - 0.112 * line)
    away = np.full(shape, np.inf)
    for point, radius in zip(middle, radii, strict=True):
        away = np.minimum(away, np.linalg.norm((place - point) * shape, axis=-1) / radius)
    return away


def _field(random: np.random.Generator, shape: tuple[int, ...], width: float) -> Array:
    """Smooth random values of mean 0 and deviation 1."""
    field = gaussian_filter(random.normal(size=shape), width)
    return np.asarray(field / field.std())


def _picture() -> Array:
    """Grey values ``(y, x)`` from 0 to 255."""
    random = np.random.default_rng(_SEED)
    y, x = np.mgrid[:_PICTURE, :_PICTURE]
    grey = np.full((_PICTURE, _PICTURE), 12.0)
    for _ in range(34):
        row, column = random.uniform(8, _PICTURE - 8, 2)
        long, turn, light = random.uniform(8, 13), random.uniform(0, np.pi), random.uniform(60, 150)
        short = long * random.uniform(0.7, 1)
        along = ((x - column) * np.cos(turn) + (y - row) * np.sin(turn)) / long
        across = ((y - row) * np.cos(turn) - (x - column) * np.sin(turn)) / short
        inside = 1 / (1 + np.exp(((np.hypot(along, across) - 1) * 12).clip(-50, 50)))
        grey = np.maximum(grey, light * inside)
    grey += 3 * _field(random, grey.shape, 1.5) + random.normal(0, 2, grey.shape)
    return grey.clip(0, 255)


def _nifti(grey: Array, channels: int, steps: tuple[float, ...]) -> bytes:
    import nibabel as nib

    affine = np.diag([*steps, 1.0])
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(grey.shape) - 1) / 2)
    array: Any = np.rint(grey).astype(np.uint8)
    if channels > 1:
        array = np.stack([array] * channels, axis=-1)
    content: bytes = nib.Nifti1Image(array, affine).to_bytes()
    return gzip.compress(content, 6, mtime=0)


def _png(grey: Array, channels: int) -> bytes:
    from PIL import Image

    array = np.rint(grey).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(array if channels == 1 else np.stack([array] * 3, axis=-1)).save(stream, "PNG")
    return stream.getvalue()
