"""Names, units and rules of the metrics; how they are computed is in the other modules."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from medseg_nca.config.labels import MERGED as MERGED

Values = dict[str, float | None]

RULES: tuple[str, ...] = (
    "Computed on the grid of the source label map, in millimetres; a picture without a pixel size "
    "counts 1 mm a pixel.",
    "A label that neither truth nor prediction has in a case is left out of that label's means; "
    "only its volume difference counts, as 0.",
    "A label that only one of the two has: Dice and NSD 0; HD, HD95 and ASSD are the length of the "
    "image's diagonal.",
    "Sensitivity and relative difference need a truth, precision needs a prediction; n is the "
    "number of cases that a value stands on.",
    "HD, HD95, ASSD on surface voxels; HD95 is the larger of the two directed 95th percentiles; "
    "ASSD is the mean over both surfaces.",
    "NSD weighs surfaces by area (in 2D by length).",
    "Volume difference is prediction minus truth.",
    "Merged: the union of all labels. Mean Dice: the mean over the labels of their mean Dice.",
)


@dataclass(frozen=True)
class Metric:
    """How a metric is shown.

    Attributes:
        title: short name for tables and figures.
        unit: "mm", "mL" or "" for ratios; volumes are areas in mm^2 for 2D images.
        better: which values are better; "zero" for signed differences, None for plain facts.
    """

    title: str
    unit: str = ""
    better: Literal["higher", "lower", "zero"] | None = "higher"

    def heading(self, dims: int = 3) -> str:
        """Title with its unit, for images of that many axes."""
        unit = "mm²" if dims == 2 and self.unit == "mL" else self.unit
        return f"{self.title} ({unit})" if unit else self.title


METRICS: dict[str, Metric] = {
    "dice": Metric("Dice"),
    "hd95": Metric("HD95", "mm", "lower"),
    "hd": Metric("HD", "mm", "lower"),
    "assd": Metric("ASSD", "mm", "lower"),
    "nsd": Metric("NSD"),
    "sensitivity": Metric("Sensitivity"),
    "precision": Metric("Precision"),
    "volume_difference": Metric("Volume difference", "mL", "zero"),
    "relative_volume_difference": Metric("Relative volume difference", "", "zero"),
    "volume": Metric("Predicted volume", "mL", None),
    "truth_volume": Metric("True volume", "mL", None),
}
