"""Random changes of intensity, drawn once for a sample and applied to each view of it.

The order is nnU-Net's (Isensee et al. 2021): noise, blur, brightness, contrast, bias field, low
resolution, gamma last. What depends on the whole image (its mean, its range) is taken from voxels
of it that were drawn once, so that all views are changed alike; noise is drawn anew for each view,
and a lower resolution begins at its border.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import torch
from monai.networks.layers import GaussianFilter
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from medseg_nca.config.data import AugmentSettings

# A Gaussian that is narrower than this, in cells, leaves its cell alone.
_NARROW = 0.2
# A Gaussian is cut off at this many of its sigmas.
_TRUNCATED = 4.0
# Degree of the polynomial of a bias field (Sudre et al. 2017).
_DEGREE = 3


@dataclass(frozen=True)
class Place:
    """Where a view lies in its sample.

    Attributes:
        scale: size of a cell in voxels.
        starts: of the first cell.
        size: of the sample in voxels.
    """

    scale: tuple[int, ...]
    starts: tuple[int, ...]
    size: tuple[int, ...]


Change = Callable[[Tensor, Place], Tensor]


def draw_changes(
    settings: AugmentSettings, reference: Tensor, rng: np.random.Generator
) -> list[Change]:
    """Draw the changes of one sample; each maps a view ``(C, *cells)`` and its place to a view.

    Args:
        settings: chances and ranges.
        reference: voxels of the image, ``(C, n)``.
        rng: decides.
    """
    changes: list[Change] = []
    if not settings.enabled:
        return changes
    draws: tuple[tuple[float, Callable[[Tensor], Change]], ...] = (
        (settings.noise_p, lambda _: _noise(settings, rng)),
        (settings.blur_p, lambda _: _blur(settings, rng)),
        (settings.brightness_p, lambda _: _Linear(rng.uniform(*settings.brightness))),
        (settings.contrast_p, lambda seen: _contrast(settings, seen, rng)),
        (settings.bias_field_p, lambda _: _bias(settings, rng)),
        (settings.low_resolution_p, lambda _: _coarse(settings, rng)),
        (settings.gamma_p, lambda seen: _gamma(settings, seen, rng)),
    )  # fmt: skip
    for chance, draw in draws:
        if rng.random() < chance:
            change = draw(reference)
            changes.append(change)
            if isinstance(change, _Linear | _Gamma):
                reference = change.values(reference)
    return changes


@dataclass(frozen=True)
class _Noise:
    """Normal noise of each voxel. A cell has the mean of its voxels, so a large one has less."""

    sd: float
    seed: int

    def __call__(self, view: Tensor, place: Place) -> Tensor:
        # The seed is one for each level and place, so the noise does not depend on earlier draws.
        key = [self.seed, *place.scale, *(s + 2**20 for s in place.starts)]
        rng = np.random.default_rng(key)
        drawn = rng.standard_normal(tuple(view.shape), dtype=np.float32)
        return view + torch.from_numpy(drawn) * (self.sd / math.sqrt(prod(place.scale)))


@dataclass(frozen=True)
class _Blur:
    """A Gaussian; sigma in voxels per axis."""

    sigma: tuple[float, ...]

    def __call__(self, view: Tensor, place: Place) -> Tensor:
        sigma = [s / size for s, size in zip(self.sigma, place.scale, strict=False)]
        if max(sigma) < _NARROW:
            return view
        sigma = [max(s, 1e-3) for s in sigma]
        # The filter takes voxels outside the view for 0, but the image goes on there.
        reach = math.ceil(_TRUNCATED * max(sigma))
        wide = F.pad(view[None], (reach,) * (2 * len(sigma)), mode="replicate")
        blurred: Tensor = GaussianFilter(len(sigma), sigma, truncated=_TRUNCATED)(wide)
        inside = tuple(slice(reach, reach + n) for n in view.shape[1:])
        return blurred.squeeze(0)[(slice(None), *inside)]


@dataclass(frozen=True)
class _Linear:
    """``(view - fixed) * factor + fixed`` within bounds, all of them ``(C, 1)``."""

    factor: float
    fixed: Tensor | None = None
    low: Tensor | None = None
    high: Tensor | None = None

    def values(self, voxels: Tensor) -> Tensor:
        """Change voxels ``(C, n)``."""
        if self.fixed is None:
            return voxels * self.factor
        changed = (voxels - self.fixed) * self.factor + self.fixed
        return changed.clamp(self.low, self.high)

    def __call__(self, view: Tensor, place: Place) -> Tensor:
        return self.values(view.flatten(1)).view_as(view)


@dataclass(frozen=True)
class _Gamma:
    """``((v - low) / range) ** gamma``, brought back to the mean and deviation from before."""

    gamma: float
    low: Tensor
    range: Tensor
    slope: Tensor
    shift: Tensor

    def values(self, voxels: Tensor) -> Tensor:
        """Change voxels ``(C, n)``."""
        share = ((voxels - self.low) / self.range).clamp(min=0)
        return share**self.gamma * self.slope + self.shift

    def __call__(self, view: Tensor, place: Place) -> Tensor:
        return self.values(view.flatten(1)).view_as(view)


@dataclass(frozen=True)
class _Bias:
    """Multiply by the exponential of a polynomial over the sample."""

    coefficients: NDArray[np.float64]

    def __call__(self, view: Tensor, place: Place) -> Tensor:
        dims = len(place.scale)
        axes = [
            2 * (first + np.arange(n) + 0.5) * s / size - 1
            for first, n, s, size in zip(
                place.starts, view.shape[1:], place.scale, place.size, strict=True
            )
        ]
        if dims == 2:
            field = np.polynomial.legendre.leggrid2d(axes[0], axes[1], self.coefficients[0])
        else:
            field = np.polynomial.legendre.leggrid3d(*axes[:3], self.coefficients)  # type: ignore[call-overload]
        return view * torch.from_numpy(np.exp(field).astype(np.float32))


@dataclass(frozen=True)
class _LowResolution:
    """Keep every nth voxel only, and enlarge; cells of n voxels or more stay as they are."""

    zoom: float

    def __call__(self, view: Tensor, place: Place) -> Tensor:
        small = [
            max(1, round(n * min(1.0, self.zoom * s)))
            for n, s in zip(view.shape[1:], place.scale, strict=True)
        ]
        if small == list(view.shape[1:]):
            return view
        reduced = F.interpolate(view[None], size=small, mode="nearest-exact")
        mode = "trilinear" if len(small) == 3 else "bilinear"
        return F.interpolate(reduced, size=view.shape[1:], mode=mode).squeeze(0)


def _noise(settings: AugmentSettings, rng: np.random.Generator) -> _Noise:
    return _Noise(rng.uniform(0, settings.noise_sd), int(rng.integers(2**31)))


def _blur(settings: AugmentSettings, rng: np.random.Generator) -> _Blur:
    return _Blur(tuple(rng.uniform(*settings.blur_sigma, 3)))


def _contrast(settings: AugmentSettings, seen: Tensor, rng: np.random.Generator) -> _Linear:
    low, high = seen.amin(1, keepdim=True), seen.amax(1, keepdim=True)
    return _Linear(rng.uniform(*settings.contrast), seen.mean(1, keepdim=True), low, high)


def _gamma(settings: AugmentSettings, seen: Tensor, rng: np.random.Generator) -> _Gamma:
    low = seen.amin(1, keepdim=True)
    spread = (seen.amax(1, keepdim=True) - low).clamp(min=1e-7)
    gamma = rng.uniform(*settings.gamma)
    bent = ((seen - low) / spread) ** gamma
    slope = _deviation(seen) / _deviation(bent).clamp(min=1e-7)
    shift = seen.mean(1, keepdim=True) - bent.mean(1, keepdim=True) * slope
    return _Gamma(gamma, low, spread, slope, shift)


def _bias(settings: AugmentSettings, rng: np.random.Generator) -> _Bias:
    coefficients = np.zeros((_DEGREE + 1,) * 3)
    for powers in np.ndindex(coefficients.shape):
        if sum(powers) <= _DEGREE:
            coefficients[powers] = rng.uniform(0, settings.bias_field)
    return _Bias(coefficients)


def _coarse(settings: AugmentSettings, rng: np.random.Generator) -> _LowResolution:
    return _LowResolution(rng.uniform(*settings.low_resolution))


def _deviation(voxels: Tensor) -> Tensor:
    return voxels.std(1, keepdim=True, correction=0)


def apply(changes: Sequence[Change], view: Tensor, place: Place) -> Tensor:
    """Apply the changes to a view one after the other."""
    for change in changes:
        view = change(view, place)
    return view
