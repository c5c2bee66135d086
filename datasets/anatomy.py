"""Procedural anatomy: the images and label maps that ``data phantom`` writes.

A body (not labelled) holds an organ of two touching parts, anterior and posterior, with a lesion
nested in one of them, and a vessel and a cyst that look like parts of it and are not. Shapes live
in patient millimetres and are warped by a smooth random field; the voxel grid is laid through them
at an oblique angle. Each voxel is rendered from 2^dims samples, so borders have partial volume;
then come tissue texture, a bias field and Rician noise (Gudbjartsson and Patz 1995).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from medseg_nca.errors import DataError

Dims = Literal[2, 3]
Array = NDArray[np.floating[Any]]

LABELS = {1: "anterior", 2: "posterior", 3: "lesion"}
SIZES: dict[int, tuple[int, ...]] = {2: (96, 80), 3: (48, 40, 24)}
SPACINGS: dict[int, tuple[float, ...]] = {2: (1.0, 1.25), 3: (1.0, 1.0, 2.0)}  # mm
SMALLEST, LARGEST = 12, 512  # voxels an axis
SUPERSAMPLING = 2
SMALLEST_LABEL = 5  # voxels; a draw with less is thrown away
ATTEMPTS = 50

# Tissues: their number while rendering, and (mean, spread between cases) of the intensity.
AIR, ANTERIOR, POSTERIOR, LESION, BODY, VESSEL, CYST = range(7)
INTENSITY = {
    AIR: (0.02, 0.01),
    BODY: (0.36, 0.04),
    ANTERIOR: (0.62, 0.05),
    POSTERIOR: (0.76, 0.05),
    LESION: (0.47, 0.05),
    VESSEL: (0.85, 0.06),
    CYST: (0.48, 0.06),
}
NOISE, TEXTURE, BIAS = (0.045, 0.08), 0.04, 0.2  # of an intensity of 1
SCALE = (600.0, 1400.0)  # the arbitrary unit of an MR image
TILT = np.deg2rad(12.0)  # the largest angle between the grid and the patient


@dataclass(frozen=True)
class Phantom:
    """One made-up patient.

    Attributes:
        image: int16 ``(x, y[, z])``, arbitrary units.
        label: uint8 of the same shape, see ``LABELS``.
        affine: 4x4, voxel index to RAS+ mm.
    """

    image: NDArray[np.int16]
    label: NDArray[np.uint8]
    affine: NDArray[np.float64]


@dataclass(frozen=True)
class _Waves:
    """A smooth random field: a sum of plane waves, defined at every point."""

    frequency: Array  # (waves, dims), radians per unit
    phase: Array  # (waves,)
    amplitude: Array  # (waves, outputs)

    @classmethod
    def draw(
        cls, rng: np.random.Generator, dims: int, outputs: int, strength: float, fastest: float
    ) -> _Waves:
        """Waves of at most ``fastest`` turns across the body's half-width."""
        waves = 6
        direction = rng.normal(size=(waves, dims))
        direction /= np.linalg.norm(direction, axis=1, keepdims=True)
        turns = rng.uniform(0.3, 1.0, size=(waves, 1)) * fastest
        amplitude = rng.normal(size=(waves, outputs)) * strength * np.sqrt(2.0 / waves)
        parts = 2 * np.pi * direction * turns, rng.uniform(0, 2 * np.pi, size=waves), amplitude
        return cls(*(part.astype(np.float32) for part in parts))

    def at(self, points: Array) -> Array:
        """Values ``(n, outputs)`` at points ``(n, dims)``."""
        values: Array = np.cos(points @ self.frequency.T + self.phase) @ self.amplitude
        return values


@dataclass(frozen=True)
class _Ellipsoid:
    centre: Array
    axes: Array
    rotation: Array

    def contains(self, points: Array) -> NDArray[np.bool_]:
        """Whether each point is inside."""
        to_sphere = self.rotation / self.axes
        local = points @ to_sphere - self.centre @ to_sphere
        inside: NDArray[np.bool_] = np.einsum("nd,nd->n", local, local) < 1
        return inside


def make_phantom(
    seed: int,
    index: int,
    dims: Dims = 3,
    size: tuple[int, ...] | None = None,
    spacing: tuple[float, ...] | None = None,
) -> Phantom:
    """Make case ``index`` of a seed; it does not depend on how many cases are made.

    Args:
        seed: of the whole set.
        index: of the case.
        dims: 2 or 3.
        size: voxels an axis; each case differs by some, as patients do. Default ``SIZES``.
        spacing: mm an axis, varied by up to a tenth a case. Default ``SPACINGS``.

    Raises:
        DataError: if the size or the spacing does not fit, or is too small to show every label.
    """
    size, spacing = _checked(dims, size, spacing)
    rng = np.random.default_rng([seed, index, dims])
    for _ in range(ATTEMPTS):
        phantom = _draw(rng, dims, size, spacing)
        counts = np.bincount(phantom.label.ravel(), minlength=len(LABELS) + 1)
        if counts[1:].min() >= SMALLEST_LABEL:
            return phantom
    raise DataError(
        f"A phantom of size {'x'.join(map(str, size))} is too small to show every label.",
        hint="Take a larger --size.",
    )


def _checked(
    dims: Dims, size: tuple[int, ...] | None, spacing: tuple[float, ...] | None
) -> tuple[tuple[int, ...], tuple[float, ...]]:
    size, spacing = size or SIZES[dims], spacing or SPACINGS[dims]
    if len(size) != dims or not all(SMALLEST <= n <= LARGEST for n in size):
        raise DataError(
            f"The size of a {dims}D phantom must be {dims} numbers from {SMALLEST} to {LARGEST}, "
            f"not {size}."
        )
    if len(spacing) != dims or not all(0 < step < np.inf for step in spacing):
        raise DataError(
            f"The spacing of a {dims}D phantom must be {dims} numbers above 0, not {spacing}."
        )
    return size, spacing


def _draw(
    rng: np.random.Generator, dims: Dims, size: tuple[int, ...], spacing: tuple[float, ...]
) -> Phantom:
    nominal = np.array(size) * np.array(spacing)
    size = tuple(int(n) for n in np.maximum(np.round(size * rng.uniform(0.9, 1.1, dims)), 8))
    steps = spacing * rng.uniform(0.9, 1.1, dims)
    affine = _oblique(rng, size, np.asarray(steps))
    # Half the nominal width is 1, so that the anatomy follows the size that was asked for.
    fine = _grid(size, affine, SUPERSAMPLING) / (nominal / 2).astype(np.float32)
    tissue = _anatomy(rng, fine, dims)
    fractions = _fractions(tissue, size)
    means = [rng.normal(*INTENSITY[number]) for number in range(len(INTENSITY))]
    clean = fractions @ np.array(means, np.float32)
    coarse = _grid(size, affine, 1) / (nominal / 2).astype(np.float32)
    return Phantom(_acquire(rng, clean, coarse), _labels(fractions), affine)


def _oblique(rng: np.random.Generator, size: tuple[int, ...], steps: Array) -> NDArray[np.float64]:
    """A tilted grid around the patient's centre; half of them are stored from right to left."""
    dims = len(size)
    turn = np.eye(3)
    planes = [(0, 1)] if dims == 2 else [(0, 1), (0, 2), (1, 2)]
    for i, j in planes:
        angle = rng.uniform(-TILT, TILT)
        rotation = np.eye(3)
        rotation[[i, i, j, j], [i, j, i, j]] = (
            np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle),
        )  # fmt: skip
        turn = turn @ rotation
    if rng.random() < 0.5:
        turn[:, 0] *= -1
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([*steps, 1.0][:3])
    middle = np.zeros(3)
    middle[:dims] = (np.array(size) - 1) / 2
    affine[:3, 3] = -affine[:3, :3] @ middle
    return affine


def _grid(size: tuple[int, ...], affine: Array, fold: int) -> Array:
    """Patient coordinates (mm) of ``fold`` samples an axis in each voxel, ``(n, dims)``."""
    dims = len(size)
    axes = [(np.arange(n * fold) + 0.5) / fold - 0.5 for n in size]
    index = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, dims)
    points = index @ affine[:dims, :dims].T + affine[:dims, 3]
    return np.asarray(points, np.float32)


def _anatomy(rng: np.random.Generator, points: Array, dims: Dims) -> NDArray[np.uint8]:
    """The tissue at each point, ``(n,)``; points are in half-widths of the field of view."""
    warp = _Waves.draw(rng, dims, dims, strength=0.05, fastest=1.0)
    points = points + warp.at(points)
    body = _ellipsoid(rng, np.zeros(dims), np.array([0.86, 0.84, 0.88])[:dims], 0.06)
    place = rng.uniform(-0.16, 0.16, dims)
    organ = _ellipsoid(rng, place, np.array([0.42, 0.54, 0.5])[:dims], 0.1)
    tissue = np.full(len(points), AIR, np.uint8)
    in_body = body.contains(points)
    tissue[in_body] = _inside(rng, points[in_body], organ, dims)
    return tissue


def _inside(
    rng: np.random.Generator, points: Array, organ: _Ellipsoid, dims: Dims
) -> NDArray[np.uint8]:
    """The tissue at each point of the body, ``(n,)``."""
    tissue = np.full(len(points), BODY, np.uint8)
    tissue[_vessel(rng, points, dims)] = VESSEL
    tissue[_cyst(rng, organ, dims).contains(points)] = CYST
    in_organ = organ.contains(points)
    tissue[in_organ] = np.where(_wall(rng, organ, points[in_organ]) > 0, ANTERIOR, POSTERIOR)
    tissue[in_organ & _lesion(rng, organ, dims).contains(points)] = LESION
    return tissue


def _ellipsoid(
    rng: np.random.Generator, centre: Array, axes: Array, spread: float, tilt: float = 0.3
) -> _Ellipsoid:
    dims = len(centre)
    skew = rng.normal(0, tilt, size=(dims, dims))
    rotation, _ = np.linalg.qr(np.eye(dims) + skew - skew.T)
    rotation *= np.sign(np.diag(rotation))
    lengths = axes * rng.normal(1, spread, dims).clip(0.7, 1.3)
    return _Ellipsoid(*(np.asarray(part, np.float32) for part in (centre, lengths, rotation)))


def _wall(rng: np.random.Generator, organ: _Ellipsoid, points: Array) -> Array:
    """Positive in front of the tilted plane that parts the organ."""
    dims = len(organ.centre)
    normal = np.array([0.0, 1.0, 0.0])[:dims] + rng.normal(0, 0.2, dims)
    normal /= np.linalg.norm(normal)
    offset = np.float32(rng.uniform(-0.08, 0.08))
    return np.asarray((points - organ.centre) @ normal.astype(np.float32) - offset)


def _lesion(rng: np.random.Generator, organ: _Ellipsoid, dims: Dims) -> _Ellipsoid:
    """Well inside one of the two parts, which one is chance."""
    place = rng.uniform(-0.25, 0.25, dims)
    place[1] = rng.choice([-1.0, 1.0]) * rng.uniform(0.4, 0.55)
    centre = organ.centre + organ.rotation @ (place * organ.axes)
    return _ellipsoid(rng, centre, np.full(dims, rng.uniform(0.15, 0.22)), 0.12)


def _cyst(rng: np.random.Generator, organ: _Ellipsoid, dims: Dims) -> _Ellipsoid:
    """Looks like a lesion, but lies beside the organ."""
    direction = rng.normal(size=dims) * np.array([1.0, 0.4, 0.4])[:dims]
    direction /= np.linalg.norm(direction)
    centre = organ.centre + direction * rng.uniform(0.62, 0.74)
    return _ellipsoid(rng, centre, np.full(dims, rng.uniform(0.12, 0.18)), 0.12)


def _vessel(rng: np.random.Generator, points: Array, dims: Dims) -> NDArray[np.bool_]:
    """A winding tube along the last axis (in 2D across the image)."""
    along = points[:, -1:]
    path = _Waves.draw(rng, 1, dims - 1, strength=0.12, fastest=1.2).at(along)
    start = rng.uniform(0.45, 0.65, dims - 1) * rng.choice([-1.0, 1.0], dims - 1)
    away = points[:, :-1] - path - start.astype(np.float32)
    return np.asarray(np.einsum("nd,nd->n", away, away) < rng.uniform(0.05, 0.09) ** 2)


def _fractions(tissue: NDArray[np.uint8], size: tuple[int, ...]) -> Array:
    """The share of each tissue in each voxel, ``(*size, tissues)``."""
    fine = tissue.reshape([n * SUPERSAMPLING for n in size])
    offsets = list(product(range(SUPERSAMPLING), repeat=len(size)))
    share = np.eye(len(INTENSITY), dtype=np.float32) / len(offsets)
    parts = (fine[tuple(slice(k, None, SUPERSAMPLING) for k in offset)] for offset in offsets)
    total = np.zeros((*size, len(INTENSITY)), np.float32)
    for part in parts:
        total += share[part]
    return total


def _labels(fractions: Array) -> NDArray[np.uint8]:
    """The label that fills most of a voxel; what is not labelled counts as one."""
    rest = fractions[..., [AIR, BODY, VESSEL, CYST]].sum(axis=-1, keepdims=True)
    shares = np.concatenate([rest, fractions[..., [ANTERIOR, POSTERIOR, LESION]]], axis=-1)
    return np.asarray(shares.argmax(axis=-1), np.uint8)


def _acquire(rng: np.random.Generator, clean: Array, points: Array) -> NDArray[np.int16]:
    """Add texture, bias field and Rician noise, and store as a scanner does."""
    dims = points.shape[1]
    texture = _Waves.draw(rng, dims, 1, TEXTURE, fastest=4.0).at(points).reshape(clean.shape)
    bias = np.exp(_Waves.draw(rng, dims, 1, BIAS, fastest=0.5).at(points)).reshape(clean.shape)
    signal = clean * (1 + texture) * bias
    sd = rng.uniform(*NOISE)
    real, imaginary = (rng.normal(0, sd, clean.shape) for _ in range(2))
    magnitude = np.hypot(signal + real, imaginary) * rng.uniform(*SCALE)
    return np.clip(np.round(magnitude), 0, np.iinfo(np.int16).max).astype(np.int16)
