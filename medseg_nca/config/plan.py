"""The plan: preprocessing with every "auto" decided, as it is stored in a model."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from medseg_nca.config.base import Settings

# In mm; finer than any medical image, so that a slip in a file cannot fill the memory.
SMALLEST_SPACING = 1e-4


class ChannelStatistics(Settings):
    """Intensities of one image channel over the training foreground (used by "ct")."""

    mean: float
    sd: float
    low: float
    high: float


class PreprocessPlan(Settings):
    """What is done to a volume before a model sees it, and undone afterwards.

    All per-axis values are in array order (x, y[, z]) after ``orientation``. ``spacing`` in mm,
    None leaves each volume's own. ``crop_size`` is in voxels, a multiple of the coarsest level.
    ``scales`` are the pyramid levels, coarse to fine, that fit the anisotropy of the data.
    """

    dims: Literal[2, 3]
    channels: tuple[str, ...] = Field(min_length=1)
    modality: str = "unknown"
    orientation: str | None = "RAS"
    spacing: tuple[float, ...] | None = None
    crop: Literal["none", "nonzero"] = "none"
    crop_margin: int = 4
    normalise: Literal["zscore", "ct", "percentile", "none"] = "zscore"
    percentiles: tuple[float, float] = (0.5, 99.5)
    clip: bool = True
    colour: Literal["keep", "grey"] = "keep"
    statistics: tuple[ChannelStatistics, ...] | None = None
    crop_size: tuple[int, ...]
    scales: tuple[tuple[int, ...], ...] = ()

    @model_validator(mode="after")
    def _check(self) -> Self:
        for name, values in (("spacing", self.spacing), ("crop_size", self.crop_size)):
            if values is None:
                continue
            if len(values) != self.dims or any(not v > 0 for v in values):
                raise ValueError(f"{name} must be {self.dims} numbers above 0, got {values}")
        if self.spacing is not None and min(self.spacing) < SMALLEST_SPACING:
            raise ValueError(f"spacing must be at least {SMALLEST_SPACING} mm, got {self.spacing}")
        if any(len(scale) != self.dims or min(scale) < 1 for scale in self.scales):
            raise ValueError(f"scales must be {self.dims} numbers from 1, got {self.scales}")
        letters = self.orientation or ""
        pairs = [sum(letter in letters for letter in pair) for pair in ("RL", "AP", "SI")]
        if letters and (len(letters) != 3 or pairs != [1, 1, 1]):
            raise ValueError(
                f"orientation must be three of RL, AP, SI, such as RAS, got {letters!r}"
            )
        return self

    @property
    def in_channels(self) -> int:
        """Image channels that a model sees."""
        return 1 if self.colour == "grey" else len(self.channels)
