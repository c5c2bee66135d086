"""Settings of the data set, its splits and its preprocessing."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from medseg_nca.config.auto import OrAuto
from medseg_nca.config.base import Settings
from medseg_nca.config.bounds import MemoryGb
from medseg_nca.config.labels import LabelTable
from medseg_nca.config.plan import CropMargin, Percentiles


class SplitSettings(Settings):
    """How cases are divided; a patient's cases stay on one side.

    ``val`` and ``test`` are fractions of the patients. With ``folds`` the part that is not held
    out for the test is divided into that many folds, and the run's fold is its validation part.
    ``file`` reads a split instead: our own ``split.json`` or nnU-Net's ``splits_final.json``. With
    ``listed_only`` a case that the file does not list is no part of the run's data set: none of its
    files is read. A search trains so, and never sees the test part.
    """

    val: float = Field(0.15, ge=0, lt=1)
    test: float = Field(0.2, ge=0, lt=1)
    seed: int = 0
    folds: int | None = Field(None, ge=2)
    fold: int | None = Field(None, ge=0)
    file: Path | None = None
    listed_only: bool = False

    @model_validator(mode="after")
    def _has_list(self) -> Self:
        if self.listed_only and self.file is None:
            raise ValueError("listed_only needs a file that lists the cases")
        return self

    @model_serializer(mode="wrap")
    def _write(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out ``listed_only`` where it is off, so that older versions can read the file."""
        tree: dict[str, Any] = write(self)
        return {key: value for key, value in tree.items() if value or key != "listed_only"}


class DataSettings(Settings):
    """What is read from the data folder. ``labels`` replaces the data set's own table."""

    format: str = "auto"
    labels: LabelTable | None = None
    split: SplitSettings = SplitSettings()


class PreprocessSettings(Settings):
    """How a volume is brought to the grid and the intensities that models see.

    ``spacing`` in mm per axis: "auto" takes the data set's median (anisotropic data keep a coarse
    axis), "keep" leaves each volume's own. ``normalise``: "auto" takes "ct" for CT and "zscore"
    otherwise; "percentile" maps ``percentiles`` to 0 and 1. ``crop``: "nonzero" keeps the part of
    an image that is not exactly 0, and ``crop_margin`` voxels around it; "auto" does so where much
    of most images is such a border. ``colour``: "grey" makes one channel of a coloured picture;
    "auto" does so where red, green and blue are the same in every picture. ``crop_size`` is the
    size in voxels of a training sample and the smallest size a model is run on; "auto" takes the
    median size, within ``memory_budget_gb``.
    """

    orientation: str | None = "RAS"
    spacing: Literal["auto", "keep"] | tuple[float, ...] = "auto"
    crop: Literal["auto", "none", "nonzero"] = "auto"
    crop_margin: CropMargin = 4
    normalise: Literal["auto", "zscore", "ct", "percentile", "none"] = "auto"
    percentiles: Percentiles = (0.5, 99.5)
    clip: bool = True
    colour: Literal["auto", "keep", "grey"] = "auto"
    crop_size: Literal["auto"] | tuple[int, ...] = "auto"
    memory_budget_gb: MemoryGb = 4.0


class AugmentSettings(Settings):
    """Random changes of a training sample. Angles in degrees, sizes as factors, ``p`` chances."""

    enabled: bool = True
    flip_axes: Annotated[tuple[int, ...], OrAuto()] = ()
    flip_p: float = Field(0.5, ge=0, le=1)
    rotate90: Annotated[bool, OrAuto()] = False
    affine_p: float = Field(0.3, ge=0, le=1)
    rotate: float = Field(15.0, ge=0)
    scale: tuple[float, float] = (0.85, 1.2)
    shear: float = Field(0.0, ge=0)
    elastic_p: float = Field(0.0, ge=0, le=1)
    elastic_sigma: float = Field(6.0, gt=0)
    elastic_magnitude: float = Field(30.0, ge=0)
    noise_p: float = Field(0.15, ge=0, le=1)
    noise_sd: float = Field(0.1, ge=0)
    blur_p: float = Field(0.1, ge=0, le=1)
    blur_sigma: tuple[float, float] = (0.5, 1.0)
    brightness_p: float = Field(0.15, ge=0, le=1)
    brightness: tuple[float, float] = (0.75, 1.25)
    contrast_p: float = Field(0.15, ge=0, le=1)
    contrast: tuple[float, float] = (0.75, 1.25)
    gamma_p: float = Field(0.15, ge=0, le=1)
    gamma: tuple[float, float] = (0.7, 1.5)
    bias_field_p: float = Field(0.0, ge=0, le=1)
    bias_field: float = Field(0.3, ge=0)
    low_resolution_p: float = Field(0.0, ge=0, le=1)
    low_resolution: tuple[float, float] = (0.5, 1.0)
