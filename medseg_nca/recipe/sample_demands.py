"""What the model of a run asks of its training samples: sizes that divide, and memory."""

from __future__ import annotations

from functools import partial
from math import prod

from medseg_nca.config import PreprocessPlan, RunSettings
from medseg_nca.config.model import ModelSettings, NcaModelSettings
from medseg_nca.errors import ConfigError
from medseg_nca.models.auto import auto_levels
from medseg_nca.models.describe import describe
from medseg_nca.models.geometry import level_scales
from medseg_nca.recipe import batch_size, is_undecided
from medseg_nca.recipe.size import wanted_channels, with_size
from medseg_nca.transforms.planning import Demands, common_multiple

# For networks, which describe() does not estimate: a U-Net of 32 channels keeps about 16 such maps
# at full resolution for the backward pass, in float32.
_NETWORK_BYTES = 2_000


def sample_demands(settings: RunSettings, plan: PreprocessPlan) -> Demands:
    """Ask the model; the memory is that of a whole batch.

    A model that does not fit the data (made for other axes, or too few channels) is not refused
    here: what is prepared serves other models too.
    """
    sizes = {"dims": plan.dims, "in_channels": plan.in_channels}
    model: ModelSettings | None = settings.model.model_copy(update=sizes)
    if isinstance(model, NcaModelSettings) and is_undecided(settings, "model.cell.channels"):
        # The labels are not known yet; they change little of what a step needs.
        channels = wanted_channels(model, plan.in_channels, 1)
        model = with_size(model, channels, model.cell.update.hidden)
    multiple = plan.scales[0]
    if isinstance(model, NcaModelSettings) and not isinstance(model.levels, str):
        try:
            multiple = common_multiple(multiple, level_scales(model.levels, plan.dims)[0])
        except ConfigError:
            model = None
    return Demands(multiple, partial(_memory, model, plan, batch_size(settings, plan.dims)))


def _memory(
    model: ModelSettings | None, plan: PreprocessPlan, batch: int, size: tuple[int, ...]
) -> float:
    return batch * (_automaton(model, plan, size) or float(prod(size) * _NETWORK_BYTES))


def _automaton(
    model: ModelSettings | None, plan: PreprocessPlan, size: tuple[int, ...]
) -> float | None:
    if not isinstance(model, NcaModelSettings):
        return None
    if isinstance(model.levels, str):
        levels = auto_levels(plan.model_copy(update={"crop_size": size}))
        model = model.model_copy(update={"levels": levels})
    try:
        megabytes = describe(model, size).training_mb
    except ConfigError:
        return None
    return None if megabytes is None else megabytes * 1e6
