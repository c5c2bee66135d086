"""Which metrics there are, by name, and the rules that all of them follow."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from functools import cached_property

from medseg_nca.config.labels import MERGED as MERGED
from medseg_nca.errors import PluginError
from medseg_nca.metrics.masks.base import Metric
from medseg_nca.registry import PluginRegistry

Values = dict[str, float | None]

MASK_METRICS = PluginRegistry(
    "medseg_nca.metrics.masks",
    "medseg_nca.metrics",
    "METRIC",
    "metric",
    fits=lambda found: isinstance(found, Metric),
)

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

# A row of metrics.csv and a label of metrics.json have these entries besides the metrics.
_TAKEN = frozenset({"case", "label", "seconds", "presence"})

log = logging.getLogger(__name__)


class _Metrics(Mapping[str, Metric]):
    """The library's metrics and those of other packages, in the order of their columns.

    They are imported when one is asked for. A metric of another package that cannot be used is left
    out with a warning.
    """

    @cached_property
    def _found(self) -> dict[str, Metric]:
        found: list[tuple[str, Metric]] = list(MASK_METRICS.usable())
        for name in _TAKEN & {name for name, _ in found}:
            entry = MASK_METRICS.others.find(name)
            log.warning("%s", entry.broken("a column of metrics.csv has that name already"))
        usable = [(name, metric) for name, metric in found if name not in _TAKEN]
        return dict(sorted(usable, key=lambda entry: (entry[1].order, entry[0])))

    def __getitem__(self, name: str) -> Metric:
        return self._found[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)


METRICS: Mapping[str, Metric] = _Metrics()


def rules() -> list[str]:
    """What a reader of the numbers must know: :data:`RULES`, then those of single metrics."""
    return [
        *RULES,
        *(f"{metric.title}: {metric.rule}" for metric in METRICS.values() if metric.rule),
    ]


def metrics_of_others() -> list[str]:
    """The metrics that other packages add, with names and versions of the packages.

    Values that were stored are those of the same metrics only if this list is the same.
    """
    return [str(MASK_METRICS.others.find(name)) for name in METRICS if _is_of_others(name)]


def error_of(name: str, reason: str) -> PluginError | None:
    """The error that names the package whose metric failed; None for one of the library."""
    return MASK_METRICS.others.find(name).broken(reason) if _is_of_others(name) else None


def _is_of_others(name: str) -> bool:
    return name not in MASK_METRICS.own_names
