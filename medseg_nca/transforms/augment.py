"""Random changes of training samples, from the settings; MONAI's transforms do the work."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from monai.transforms import (
    Compose,
    EnsureTyped,
    Rand2DElasticd,
    Rand3DElasticd,
    RandAdjustContrastd,
    RandAffined,
    RandBiasFieldd,
    RandFlipd,
    RandGaussianNoised,
    RandGaussianSmoothd,
    RandRotate90d,
    RandScaleIntensityd,
    RandScaleIntensityFixedMeand,
    RandSimulateLowResolutiond,
)

from medseg_nca.config.data import AugmentSettings
from medseg_nca.errors import ConfigError

IMAGE, LABEL = "image", "label"
BOTH = (IMAGE, LABEL)
# The image by linear interpolation, the label map by nearest neighbour; outside is background.
_MODES = ("bilinear", "nearest")
_PADDING = ("border", "zeros")
# Beyond this ratio of voxel sizes a turn in voxel units is not rigid enough.
_ANISOTROPIC = 2.0


def augmentation(
    settings: AugmentSettings, dims: int, spacing: Sequence[float] | None = None
) -> Compose:
    """Build the random changes of ``{"image": (C, *S), "label": (L, *S)}``.

    Shapes stay; out come plain tensors, float32 and uint8. The same seed given to
    ``set_random_state`` gives the same changes. What has no chance is not built.

    Args:
        settings: chances and ranges.
        dims: 2 or 3 spatial axes.
        spacing: mm per axis. Voxels that are much longer along one axis are turned around that
            axis only: any other turn, made in voxel units, would shear what is in them.

    Raises:
        ConfigError: if a flip axis does not exist.
    """
    wrong = [axis for axis in settings.flip_axes if not 0 <= axis < dims]
    if wrong:
        raise ConfigError(
            f"augment.flip_axes: there is no axis {wrong[0]} in {dims}D, only 0 to {dims - 1}."
        )
    steps = [
        *_spatial(settings, dims, spacing),
        *_elastic(settings, dims),
        *_intensity(settings, dims),
        EnsureTyped(BOTH, dtype=(torch.float32, torch.uint8), track_meta=False),
    ]
    return Compose(steps)


def _spatial(settings: AugmentSettings, dims: int, spacing: Sequence[float] | None) -> list[Any]:
    steps: list[Any] = []
    if settings.flip_p > 0:
        steps += [RandFlipd(BOTH, settings.flip_p, spatial_axis=a) for a in settings.flip_axes]
    if settings.rotate90:
        steps.append(_RandSquareTurnd(BOTH, 0.5, max_k=3, spatial_axes=(0, 1)))
    if settings.affine_p > 0:
        steps.append(_affine(settings, _angles(settings, dims, spacing), dims))
    return steps


def _angles(
    settings: AugmentSettings, dims: int, spacing: Sequence[float] | None
) -> list[tuple[float, float]]:
    """The range of the angle around each axis, in radians; 2D has a single one."""
    angle = float(np.deg2rad(settings.rotate))
    if dims == 2:
        return [(-angle, angle)]
    coarse = [i for i, s in enumerate(spacing or ()) if s > _ANISOTROPIC * min(spacing or (1.0,))]
    turned = [axis for axis in range(3) if not coarse or axis in coarse]
    return [(-angle, angle) if axis in turned else (0.0, 0.0) for axis in range(3)]


def _affine(settings: AugmentSettings, angles: list[tuple[float, float]], dims: int) -> RandAffined:
    shear = np.tan(np.deg2rad(settings.shear))
    # MONAI scales the grid that is looked up, so an object grows by the inverse.
    smallest, largest = settings.scale
    return RandAffined(
        BOTH,
        prob=settings.affine_p,
        rotate_range=angles,
        shear_range=[(-shear, shear)] * (dims * (dims - 1)) if shear else None,
        scale_range=[(1 / largest - 1, 1 / smallest - 1)] * dims,
        mode=_MODES,
        padding_mode=_PADDING,
    )


def _elastic(settings: AugmentSettings, dims: int) -> list[Any]:
    if settings.elastic_p == 0:
        return []
    magnitude, sigma = settings.elastic_magnitude, settings.elastic_sigma
    shared: dict[str, Any] = {
        "prob": settings.elastic_p,
        "mode": _MODES,
        "padding_mode": _PADDING,
    }
    if dims == 3:
        return [Rand3DElasticd(BOTH, (sigma, sigma), (0.0, magnitude), **shared)]
    # In 3D MONAI smooths white noise; in 2D it shifts control points. Smoothing in the plane with a
    # Gaussian leaves 1 / (2 sqrt(pi) sigma) of the noise: the shifts are made as large as that.
    shift = magnitude / (2 * np.sqrt(np.pi) * sigma)
    return [Rand2DElasticd(BOTH, (2 * sigma, 2 * sigma), (0.0, shift), **shared)]


def _intensity(settings: AugmentSettings, dims: int) -> list[Any]:
    """The order of nnU-Net (Isensee et al. 2021): noise, blur, brightness, contrast, gamma last."""
    s = settings
    blur: dict[str, Any] = dict.fromkeys(("sigma_x", "sigma_y", "sigma_z"), s.blur_sigma)
    upsample = "trilinear" if dims == 3 else "bilinear"
    contrast: dict[str, Any] = {
        "factors": _around_one(s.contrast), "fixed_mean": True, "preserve_range": True,
    }  # fmt: skip
    steps: list[tuple[float, Callable[[], Any]]] = [
        (s.noise_p, lambda: RandGaussianNoised(IMAGE, s.noise_p, std=s.noise_sd)),
        (s.blur_p, lambda: RandGaussianSmoothd(IMAGE, prob=s.blur_p, **blur)),
        (
            s.brightness_p,
            lambda: RandScaleIntensityd(IMAGE, _around_one(s.brightness), prob=s.brightness_p),
        ),
        (
            s.contrast_p,
            lambda: RandScaleIntensityFixedMeand(IMAGE, prob=s.contrast_p, **contrast),
        ),
        (
            s.bias_field_p,
            lambda: RandBiasFieldd(IMAGE, coeff_range=(0.0, s.bias_field), prob=s.bias_field_p),
        ),
        (
            s.low_resolution_p,
            lambda: RandSimulateLowResolutiond(
                IMAGE,
                prob=s.low_resolution_p,
                zoom_range=s.low_resolution,
                upsample_mode=upsample,
            ),
        ),
        (s.gamma_p, lambda: RandAdjustContrastd(IMAGE, s.gamma_p, s.gamma, retain_stats=True)),
    ]
    return [build() for chance, build in steps if chance > 0]


def _around_one(factors: tuple[float, float]) -> tuple[float, float]:
    """MONAI multiplies by one plus the drawn number."""
    return factors[0] - 1, factors[1] - 1


class _RandSquareTurnd(RandRotate90d):
    """Quarter turns in the first two axes, where these are equally long: shapes must stay."""

    def __call__(self, data: Any, lazy: bool | None = None) -> Any:
        shape = data[IMAGE].shape
        return super().__call__(data, lazy) if shape[1] == shape[2] else data
