"""The plan: preprocessing with every "auto" decided, as it is stored in a model."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from medseg_nca.config.base import Settings
from medseg_nca.config.bounds import (
    MAX_AXIS,
    MAX_CELL_VOXELS,
    MAX_CHANNELS,
    MAX_CROP_VOXELS,
    MAX_GRADES,
    MAX_INTENSITY,
    MAX_LEVELS,
    MAX_ORIENTATIONS,
    MAX_SPACING,
    MIN_SPACING,
    Intensity,
    check_axes,
    short,
)


def _ordered(values: tuple[float, float]) -> tuple[float, float]:
    if not 0 <= values[0] < values[1] <= 100:
        raise ValueError(f"percentiles must be two numbers that rise, 0 to 100, got {values}")
    return values


Percentiles = Annotated[tuple[float, float], AfterValidator(_ordered)]
CropMargin = Annotated[int, Field(ge=0, le=MAX_AXIS)]


class ChannelStatistics(Settings):
    """Intensities of one image channel over the training foreground (used by "ct")."""

    mean: Intensity
    sd: float = Field(ge=0, le=MAX_INTENSITY)
    low: Intensity
    high: Intensity


Millimetres = Annotated[float, Field(ge=MIN_SPACING, le=MAX_SPACING)]
Extent = Annotated[float, Field(ge=MIN_SPACING, le=MAX_SPACING * MAX_AXIS)]
Codes = Annotated[str, Field(pattern="^[RLAPSI]{2,3}$")]


def _risen(values: tuple[float, float]) -> tuple[float, float]:
    if values[0] > values[1]:
        raise ValueError(f"a range is two numbers, the least and the largest, got {short(values)}")
    return values


IntensityRange = Annotated[tuple[Intensity, Intensity], AfterValidator(_risen)]
Share = Annotated[float, Field(ge=0, le=1)]
ShareRange = Annotated[tuple[Share, Share], AfterValidator(_risen)]
# White noise has 1; where every second voxel is dark and the others are bright it is 2.
Roughness = Annotated[float, Field(ge=0, le=2)]
RoughnessRange = Annotated[tuple[Roughness, Roughness], AfterValidator(_risen)]


class TrainingIntensities(Settings):
    """What the intensities of one channel were like, before they were normalised.

    Each pair holds the least and the largest value among the training images of what
    :class:`medseg_nca.transforms.intensity_measures.ImageIntensities` has by that name. ``grades``
    is the least of theirs, and ``whole`` says that all images had whole numbers only.
    """

    low: IntensityRange
    median: IntensityRange
    high: IntensityRange
    place: ShareRange
    border: ShareRange
    floor: ShareRange
    rough: RoughnessRange
    grades: int = Field(ge=1, le=MAX_GRADES)
    whole: bool


class TrainingImages(Settings):
    """What the images were like that a model learned from: others may be beyond what it knows.

    Per axis in array order after the plan's ``orientation``, in mm: ``spacing`` is the median,
    ``finest`` and ``coarsest`` are its range; ``smallest`` and ``largest`` are the range of the
    whole image's size. ``orientations`` are the directions of the axes as the files have them.
    ``intensities`` are those of each channel that the model sees; None in models of older versions.
    """

    spacing: tuple[Millimetres, ...]
    finest: tuple[Millimetres, ...]
    coarsest: tuple[Millimetres, ...]
    smallest: tuple[Extent, ...]
    largest: tuple[Extent, ...]
    orientations: tuple[Codes, ...] = Field((), max_length=MAX_ORIENTATIONS)
    intensities: tuple[TrainingIntensities, ...] | None = Field(
        None, min_length=1, max_length=MAX_CHANNELS
    )

    @model_serializer(mode="wrap")
    def _write(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out ``intensities`` where they are not known: older versions can read the file."""
        tree: dict[str, Any] = write(self)
        return {k: v for k, v in tree.items() if v is not None or k != "intensities"}

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        for low, high in (("finest", "spacing"), ("spacing", "coarsest"), ("smallest", "largest")):
            pair = getattr(self, low), getattr(self, high)
            if len(pair[0]) != len(pair[1]) or any(a > b for a, b in zip(*pair, strict=True)):
                raise ValueError(f"{low} must not be above {high}, got {short(pair)}")
        if len(self.spacing) != len(self.smallest):
            raise ValueError("spacing and smallest must have as many axes")
        return self


class PreprocessPlan(Settings):
    """What is done to a volume before a model sees it, and undone afterwards.

    All per-axis values are in array order (x, y[, z]) after ``orientation``. ``spacing`` in mm,
    None leaves each volume's own as long as it is like those of the ``training``
    (:mod:`medseg_nca.transforms.likeness`). ``crop_size`` is in voxels, a multiple of the coarsest
    level. ``scales`` are the pyramid levels, coarse to fine, that fit the anisotropy of the data.
    ``training`` is None where it is not known.
    """

    dims: Literal[2, 3]
    channels: tuple[str, ...] = Field(min_length=1, max_length=MAX_CHANNELS)
    modality: str = "unknown"
    orientation: str | None = "RAS"
    spacing: tuple[float, ...] | None = None
    crop: Literal["none", "nonzero"] = "none"
    crop_margin: CropMargin = 4
    normalise: Literal["zscore", "ct", "percentile", "none"] = "zscore"
    percentiles: Percentiles = (0.5, 99.5)
    clip: bool = True
    colour: Literal["keep", "grey"] = "keep"
    statistics: tuple[ChannelStatistics, ...] | None = None
    crop_size: tuple[int, ...]
    scales: tuple[tuple[int, ...], ...] = ()
    training: TrainingImages | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        check_axes("crop_size", self.crop_size, self.dims, MAX_CROP_VOXELS, "a sample")
        if len(self.scales) > MAX_LEVELS:
            raise ValueError(f"scales are at most {MAX_LEVELS}, got {len(self.scales)}")
        for scale in self.scales:
            check_axes("scales", scale, self.dims, MAX_CELL_VOXELS, "a cell")
        spacing = (1.0,) * self.dims if self.spacing is None else self.spacing
        fits = all(MIN_SPACING <= v <= MAX_SPACING for v in spacing)
        if len(spacing) != self.dims or not fits:
            raise ValueError(
                f"spacing must be {self.dims} numbers of mm from {MIN_SPACING} to "
                f"{MAX_SPACING:g}, got {short(spacing)}"
            )
        if self.training is not None and len(self.training.spacing) != self.dims:
            raise ValueError(f"training.spacing must have {self.dims} axes")
        known = None if self.training is None else self.training.intensities
        if known is not None and len(known) != self.in_channels:
            raise ValueError(
                f"training.intensities must be of {self.in_channels} channels, got {len(known)}"
            )
        letters = self.orientation or ""
        pairs = [sum(letter in letters for letter in pair) for pair in ("RL", "AP", "SI")]
        if letters and (len(letters) != 3 or pairs != [1, 1, 1]):
            raise ValueError(
                f"orientation must be three of RL, AP, SI, such as RAS, got {short(letters)}"
            )
        return self

    @property
    def in_channels(self) -> int:
        """Image channels that a model sees."""
        return 1 if self.colour == "grey" else len(self.channels)

    @property
    def usual_spacing(self) -> tuple[float, ...]:
        """The spacing in mm that a model sees: of the plan, else the training's median, else 1."""
        if self.spacing is not None:
            return self.spacing
        return (1.0,) * self.dims if self.training is None else self.training.spacing
