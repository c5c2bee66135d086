"""The plan: preprocessing with every "auto" decided, as it is stored in a model."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from medseg_nca.config.base import Settings


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

    @property
    def in_channels(self) -> int:
        """Image channels that a model sees."""
        return 1 if self.colour == "grey" else len(self.channels)
