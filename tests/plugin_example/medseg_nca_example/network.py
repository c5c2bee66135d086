"""A network of one convolution."""

from __future__ import annotations

from torch import nn

from medseg_nca.config.model import GenericModelSettings
from medseg_nca.models.baseline import BaselineModel, resolved_channels


def build(settings: GenericModelSettings) -> BaselineModel:
    """Build a convolution; ``params.kernel`` is its odd size in voxels, 3 by default."""
    inputs, outputs = resolved_channels(settings)
    kernel = int(settings.params.get("kernel", 3))
    convolution = nn.Conv2d if settings.dims == 2 else nn.Conv3d
    network = convolution(inputs, outputs, kernel, padding=kernel // 2)
    return BaselineModel(network, settings, multiple=1)
