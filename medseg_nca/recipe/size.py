"""How many channels a cell gets, and how many hidden values its rule."""

from __future__ import annotations

from dataclasses import dataclass

from medseg_nca.config.model import NcaModelSettings
from medseg_nca.errors import ConfigError
from medseg_nca.models.describe import describe
from medseg_nca.recipe.numbers import (
    CHANNELS,
    HIDDEN_STEP,
    HIDDEN_VALUES,
    LEAST_HIDDEN_CHANNELS,
    LEAST_HIDDEN_VALUES,
    MOST_LABEL_CHANNELS,
    MOST_PARAMETERS,
)


@dataclass(frozen=True)
class CellSize:
    """The size of a cell, and what decided it.

    Attributes:
        channels: of the state, those of the image among them.
        hidden: values of the rule.
        parameters: of the whole model, as it comes out.
        wanted: channels that image and labels ask for, before the bound on the parameters.
    """

    channels: int
    hidden: int
    parameters: int
    wanted: int


def least_channels(model: NcaModelSettings, images: int) -> int:
    """Channels with which a cell can do anything: the image's, the hidden and the logits'."""
    told = (model.out_channels or 1) if model.head == "channels" else 0
    return images + told + LEAST_HIDDEN_CHANNELS


def wanted_channels(model: NcaModelSettings, images: int, labels: int) -> int:
    """Channels that suit the data, before the bound on the parameters."""
    by_labels = images + min(labels, MOST_LABEL_CHANNELS)
    return max(CHANNELS, least_channels(model, images), by_labels)


def cell_size(
    model: NcaModelSettings, labels: int, *, channels: int | None, hidden: int | None
) -> CellSize:
    """Choose channels and hidden values so that the model stays within its parameters.

    First channels are given up that only many labels asked for, then hidden values. What cannot
    be made small enough stays as small as it can be.

    Args:
        model: with channels of image and logits, and levels.
        labels: how many the data have.
        channels: where they are not to be chosen.
        hidden: likewise.
    """
    images = model.in_channels or 1
    wanted = channels or wanted_channels(model, images, labels)
    least = channels or min(wanted, max(CHANNELS, least_channels(model, images)))
    values = hidden or HIDDEN_VALUES
    count = wanted
    while count > least and _parameters(model, count, values) > MOST_PARAMETERS:
        count -= 1
    if hidden is None:
        while values > LEAST_HIDDEN_VALUES and _parameters(model, count, values) > MOST_PARAMETERS:
            values -= HIDDEN_STEP
    return CellSize(count, values, _parameters(model, count, values), wanted)


def with_size(model: NcaModelSettings, channels: int, hidden: int) -> NcaModelSettings:
    """The model with cells of another size."""
    update = model.cell.update.changed(hidden=hidden)
    cell = model.cell.changed(channels=channels, update=update)
    return model.changed(cell=cell)


def _parameters(model: NcaModelSettings, channels: int, hidden: int) -> int:
    """How many parameters the model would have; 0 if it cannot be built, which fails later."""
    try:
        return describe(with_size(model, channels, hidden)).parameters
    except ConfigError:
        return 0
