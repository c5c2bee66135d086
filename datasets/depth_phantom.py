"""Made-up pairs of image and target: a lit tube with its depth, and bodies with their distance.

In 2D a camera with its light looks into a winding tube with folds and polyps, as an endoscope does:
brightness falls with the square of the distance, the wall has a texture, the exposure varies and
the sensor is noisy. The target is the depth along the optical axis in mm. In 3D the image shows
touching bodies, blurred and noisy, and the target is the signed distance to their surface in mm,
negative inside. Numpy and scipy only.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from medseg_nca.errors import DataError, OutputError
from medseg_nca.io.atomic import atomic_folder, write_text
from medseg_nca.job import Job

Floats = NDArray[np.float64]
VERSION = 1  # of the generator: raised when the same seed gives other cases
SIZES: dict[int, tuple[int, ...]] = {2: (96, 96), 3: (32, 32, 24)}
SMALLEST = 16
# Of the rays: mm between two looks, and where the light ends.
_STEP, _FAR = 0.5, 60.0
# Full width of the field of view over the focal length.
_WIDTH = 1.5
_SPACING_3D = 1.5


@dataclass(frozen=True)
class DepthCase:
    """One pair.

    Attributes:
        image: ``(*S)``, uint8 in 2D, float32 in 3D.
        target: ``(*S)`` float32, mm.
        affine: 4x4, voxel index to mm.
    """

    image: NDArray[Any]
    target: NDArray[np.float32]
    affine: Floats


def make_depth_case(
    seed: int, index: int, dims: Literal[2, 3] = 2, size: tuple[int, ...] | None = None
) -> DepthCase:
    """Make case ``index`` of a seed; it does not depend on any other.

    Raises:
        DataError: if the size has other axes or is too small.
    """
    size = size or SIZES[dims]
    if len(size) != dims or min(size) < SMALLEST:
        raise DataError(f"size: {dims} numbers of at least {SMALLEST} are needed, got {size}.")
    rng = np.random.default_rng([seed, index, dims])
    return _tube(size, rng) if dims == 2 else _bodies(size, rng)


def write_depth_phantom(
    out: Path,
    cases: int,
    seed: int = 0,
    dims: Literal[2, 3] = 2,
    size: tuple[int, ...] | None = None,
    job: Job | None = None,
) -> Path:
    """Make a data set of pairs (:mod:`medseg_nca.datasets.pairs`).

    Args:
        out: the folder to make; all of it appears at once, when everything is written.
        cases: how many; case ``i`` of a seed is the same whatever ``cases`` is.
        seed: two seeds have no case in common.
        dims: 2 writes PNG and TIFF, 3 NIfTI.
        size: voxels an axis; None takes a small default.
        job: told how far it is, under the phase "generating".

    Raises:
        DataError: if a number is out of range.
        OutputError: if ``out`` is in use or cannot be written.
        Interrupted: if the job was cancelled; nothing is then written.
    """
    from medseg_nca.io.volume import Volume
    from medseg_nca.io.write import write_volume

    if cases < 1 or seed < 0:
        raise DataError("A phantom needs at least 1 case and a seed of 0 or more.")
    if out.is_file() or (out.is_dir() and any(out.iterdir())):
        raise OutputError(f"{out}: is in use.", hint="Name a new or an empty folder.")
    job, suffixes = job or Job(), (".png", ".tiff") if dims == 2 else (".nii.gz", ".nii.gz")
    with atomic_folder(out) as folder:
        for index in range(cases):
            case = make_depth_case(seed, index, dims, size)
            for name, array, suffix in zip(
                ("images", "targets"), (case.image, case.target), suffixes, strict=True
            ):
                path = folder / name / f"phantom_{index:05d}{suffix}"
                write_volume(Volume(array[None], case.affine), path)
            job.report("generating", index + 1, cases, unit="cases")
        write_text(folder / "dataset.yaml", _notes(dims, seed, cases))
    return out


def _notes(dims: int, seed: int, cases: int) -> str:
    name, target = ("PhantomDepth", "depth") if dims == 2 else ("PhantomDistance", "distance")
    return (
        f"# Made by medseg-nca: version {VERSION}, seed {seed}, {cases} cases.\n"
        f"name: {name}{dims}D\ntargets: [{target}]\nunit: mm\nlicence: CC0-1.0\n"
    )


def _tube(size: tuple[int, ...], rng: np.random.Generator) -> DepthCase:
    """Look along z into a winding tube: march all rays at once until they meet the wall."""
    x, y = _rays(size)
    scene = _Scene.draw(rng)
    depth = np.full(size, _FAR)
    free = np.arange(depth.size)  # rays that have met nothing yet
    for z in np.arange(_STEP, _FAR, _STEP):
        hit = scene.room(x.flat[free] * z, y.flat[free] * z, z) <= 0
        depth.flat[free[hit]] = z
        free = free[~hit]
    # Halfway between two looks it is not known: one secant step makes the depth smooth.
    before, after = (
        scene.room(x * (depth - back), y * (depth - back), depth - back) for back in (_STEP, 0.0)
    )
    fraction = np.clip(before / np.maximum(before - after, 1e-6), 0, 1)
    depth = np.where(depth < _FAR, depth - _STEP * (1 - fraction), _FAR)
    light = _light(x, y, depth, scene, rng)
    image = np.clip(np.rint(255 * light), 0, 255).astype(np.uint8)
    return DepthCase(image, depth.astype(np.float32), np.eye(4))


def _rays(size: tuple[int, ...]) -> tuple[Floats, Floats]:
    """How far each pixel's ray goes sideways for each mm of depth."""
    longest = max(size)
    axes = [(np.arange(n) + 0.5 - n / 2) / longest * _WIDTH for n in size]
    x, y = np.meshgrid(*axes, indexing="ij")
    return x, y


@dataclass(frozen=True)
class _Scene:
    """A tube along z: its middle winds, its wall has folds, polyps sit on it."""

    radius: float
    bends: Floats  # amplitude (x, y), length and phase of each of two waves
    fold: tuple[float, float, float, float]  # depth, distance, phase, tilt
    polyps: Floats  # (n, 4): x, y, z, radius
    texture: Floats  # (waves, 4): around, along, phase, strength

    @classmethod
    def draw(cls, rng: np.random.Generator) -> _Scene:
        radius = float(rng.uniform(7, 12))
        bends = np.column_stack([
            rng.normal(0, 2.5, (2, 2)), rng.uniform(25, 60, 2), rng.uniform(0, 2 * np.pi, 2)
        ])  # fmt: skip
        fold = (
            float(rng.uniform(0.08, 0.25)), float(rng.uniform(8, 16)),
            float(rng.uniform(0, 2 * np.pi)), float(rng.uniform(-0.6, 0.6)),
        )  # fmt: skip
        count = int(rng.integers(0, 4))
        angle, along = rng.uniform(0, 2 * np.pi, count), rng.uniform(10, 40, count)
        size = rng.uniform(1.5, 4, count)
        tube = cls(radius, bends, fold, np.zeros((0, 4)), np.zeros((0, 4)))
        middle = tube.middle(along)
        polyps = np.column_stack([
            middle[0] + 0.85 * radius * np.cos(angle),
            middle[1] + 0.85 * radius * np.sin(angle), along, size,
        ])  # fmt: skip
        texture = np.column_stack([
            rng.integers(1, 9, 12), rng.uniform(0.2, 1.5, 12),
            rng.uniform(0, 2 * np.pi, 12), rng.uniform(0.0, 0.05, 12),
        ])  # fmt: skip
        return cls(radius, bends, fold, polyps, texture)

    def middle(self, z: Any) -> tuple[Any, Any]:
        """Where the tube's middle is at a depth; the camera is in it."""
        x = y = 0.0
        for ax, ay, length, phase in self.bends:
            wave = np.sin(2 * np.pi * z / length + phase) - np.sin(phase)
            x, y = x + ax * wave, y + ay * wave
        return x, y

    def room(self, x: Any, y: Any, z: Any) -> Any:
        """Distance to the wall or the nearest polyp, about; negative inside of them."""
        mx, my = self.middle(z)
        angle = np.arctan2(y - my, x - mx)
        depth, distance, phase, tilt = self.fold
        ring = 0.5 + 0.5 * np.cos(2 * np.pi * z / distance + phase + tilt * np.cos(angle))
        wall = self.radius * (1 - depth * ring**4) - np.hypot(x - mx, y - my)
        for px, py, pz, size in self.polyps:
            ball = np.sqrt((x - px) ** 2 + (y - py) ** 2 + (z - pz) ** 2) - size
            wall = np.minimum(wall, ball)
        return wall


def _light(x: Floats, y: Floats, depth: Floats, scene: _Scene, rng: np.random.Generator) -> Floats:
    """What the sensor makes of the light that comes back, 0 to 1."""
    place = np.stack([x * depth, y * depth, depth])
    dx, dy = np.gradient(place, axis=1), np.gradient(place, axis=2)
    normal = np.cross(dx, dy, axis=0)
    normal /= np.maximum(np.linalg.norm(normal, axis=0), 1e-9)
    distance = np.linalg.norm(place, axis=0)
    facing = np.abs((normal * place).sum(0)) / distance
    mx, my = scene.middle(depth)
    angle = np.arctan2(place[1] - my, place[0] - mx)
    albedo = np.ones_like(depth)
    for around, along, phase, strength in scene.texture:
        albedo += strength * np.cos(around * angle + along * depth + phase)
    light = albedo * (0.35 + 0.65 * facing) / (1 + (distance / 12) ** 2)
    exposure = rng.uniform(0.85, 1.15)
    shown = (exposure * np.clip(light, 0, None)) ** (1 / 2.2)  # a sensor's usual gamma
    return np.asarray(shown + rng.normal(0, 0.012, depth.shape))


def _bodies(size: tuple[int, ...], rng: np.random.Generator) -> DepthCase:
    """Ellipsoids that touch: their image, and the signed distance to their surface."""
    from scipy.ndimage import distance_transform_edt, gaussian_filter

    spacing = (1.0, 1.0, _SPACING_3D)
    extent = np.array(size) * spacing
    grid = np.stack(np.meshgrid(
        *((np.arange(n) + 0.5) * s for n, s in zip(size, spacing, strict=True)), indexing="ij"
    ))  # fmt: skip
    inside = np.zeros(size, bool)
    middle = extent * rng.uniform(0.4, 0.6, 3)
    for _ in range(int(rng.integers(2, 4))):
        radii = extent.min() * rng.uniform(0.12, 0.25, 3)
        place = middle + rng.normal(0, 0.1, 3) * extent
        inside |= (((grid - place.reshape(3, 1, 1, 1)) / radii.reshape(3, 1, 1, 1)) ** 2).sum(0) < 1
    # From the surface between voxel centres, not from the centre of the next voxel.
    half = 0.5 * min(spacing)
    outside = distance_transform_edt(~inside, spacing)
    within = distance_transform_edt(inside, spacing)
    distance = np.where(inside, half - within, outside - half)
    image = gaussian_filter(inside.astype(np.float64), 0.7) + rng.normal(0, 0.08, size)
    affine = np.diag([*spacing, 1.0])
    return DepthCase(image.astype(np.float32), distance.astype(np.float32), affine)
