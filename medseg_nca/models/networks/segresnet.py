"""MONAI's SegResNet (Myronenko 2018), a baseline."""

from __future__ import annotations

from monai.networks.nets import SegResNet

from medseg_nca.config.model import GenericModelSettings
from medseg_nca.models.baseline import BaselineModel, call_with, resolved_channels


def build(settings: GenericModelSettings) -> BaselineModel:
    """Build ``monai.networks.nets.SegResNet``; ``settings.params`` are its arguments."""
    inputs, outputs = resolved_channels(settings)
    params = {"init_filters": 16, "blocks_down": (1, 2, 2, 4), **settings.params}
    sizes = {"spatial_dims": settings.dims, "in_channels": inputs, "out_channels": outputs}
    network = call_with(SegResNet, {**params, **sizes}, "segresnet")
    return BaselineModel(network, settings, 2 ** (len(params["blocks_down"]) - 1))
