"""Read settings of an automaton off the shapes of its weights, to compare them with a file."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from medseg_nca.config.model import LevelSettings, NcaModelSettings

Shapes = Mapping[str, tuple[int, ...]]

_CELL = re.compile(r"cells\.(\d{1,6})\.")
# For each pattern of a tensor's name, the setting that decides its shape; the first match counts.
_DECIDED_BY = (
    (r"cells\.\d+\.perception\.bias", "model.cell.perception.bias"),
    (r"cells\.\d+\.perception\.", "model.cell.perception.kind"),
    (r"cells\.\d+\.update\.(scale|shift)", "model.cell.update.norm"),
    (r"cells\.\d+\.update\.output\.", "model.in_channels or model.cell.update.update_image"),
    (r"cells\.\d+\.update\.", "model.cell.update.kind"),
    (r"cells\.", "model.cell"),
    (r"heads\.\d+\.layers\.", "model.head or model.out_channels"),
    (r"contexts\.", "model.global_context"),
)


class Fact(NamedTuple):
    """A setting as it is claimed, and as a tensor of the weights file shows it.

    Attributes:
        setting: name of the setting.
        said: its value in the settings.
        held: its value according to the tensor.
        tensor: name of the tensor.
    """

    setting: str
    said: object
    held: object
    tensor: str


def setting_of(tensor: str) -> str:
    """Return the name of the setting that is most likely wrong if this tensor does not fit."""
    return next((field for pattern, field in _DECIDED_BY if re.match(pattern, tensor)), "model")


def read_settings(settings: NcaModelSettings, shapes: Shapes) -> Iterator[Fact]:
    """Compare settings with those that the shapes show.

    Args:
        settings: the settings beside the weights.
        shapes: shapes of the tensors in the weights file, by name.

    Yields:
        One fact for each setting that the shapes show. A fact has a meaning only if the facts
        before it agree. Facts end where the file is not an automaton's.
    """
    levels = settings.resolved_levels[:1] if settings.share_weights else settings.resolved_levels
    held = {int(found[1]) for name in shapes if (found := _CELL.match(name))}
    if held != set(range(len(held))):
        return
    last = f"cells.{len(held) - 1}.update.hidden.weight"
    name = "model.share_weights" if settings.share_weights else "model.levels"
    yield Fact(name, f"{len(levels)} sets of weights", f"{len(held)} sets of weights", last)
    for index, level in enumerate(levels):
        yield from _cell(settings, level, index, shapes)


def _cell(
    settings: NcaModelSettings, level: LevelSettings, index: int, shapes: Shapes
) -> Iterator[Fact]:
    seen, units = f"cells.{index}.perception.weight", f"cells.{index}.update.hidden.weight"
    filters, hidden = shapes.get(seen, ()), shapes.get(units, ())
    cell, kind = settings.cell, settings.cell.perception.kind
    fixed = {"sobel": settings.dims, "laplace": 1, "sobel_laplace": settings.dims + 1}
    if kind not in {*fixed, "depthwise", "conv"} or cell.update.kind != "mlp":
        return
    if len(filters) not in (4, 5) or len(hidden) != 2:
        return
    yield Fact("model.dims", settings.dims, len(filters) - 2, seen)
    yield Fact("model.cell.update.hidden", cell.update.hidden, hidden[0], units)
    channels = hidden[1] - filters[0]  # a unit reads the state and what the filters give
    yield Fact("model.cell.channels", cell.channels, channels, units)
    kernel = cell.perception.kernel if level.kernel is None else level.kernel
    where = "model.cell.perception" if level.kernel is None else f"model.levels.{index}"
    yield Fact(f"{where}.kernel", kernel, filters[-1], seen)
    if kind in fixed:
        if filters[:2] != (fixed[kind] * channels, 1):
            yield Fact("model.cell.perception.kind", kind, "other filters", seen)
        return
    mixed, apart = "conv (filters of all channels)", "depthwise (filters of one channel)"
    claimed = mixed if kind == "conv" else apart
    found = mixed if filters[1] != 1 else apart
    yield Fact("model.cell.perception.kind", claimed, found, seen)
    each = filters[0] // channels
    yield Fact("model.cell.perception.filters", cell.perception.filters, each, seen)
