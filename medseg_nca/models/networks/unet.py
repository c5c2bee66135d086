"""MONAI's residual U-Net (Kerfoot et al. 2019), a baseline."""

from __future__ import annotations

from monai.networks.nets import UNet

from medseg_nca.config.model import GenericModelSettings
from medseg_nca.models.baseline import BaselineModel, call_with, resolved_channels, total_stride


def build(settings: GenericModelSettings) -> BaselineModel:
    """Build ``monai.networks.nets.UNet``; ``settings.params`` are its arguments."""
    inputs, outputs = resolved_channels(settings)
    params = {"channels": (16, 32, 64, 128), "strides": (2, 2, 2), **settings.params}
    sizes = {"spatial_dims": settings.dims, "in_channels": inputs, "out_channels": outputs}
    network = call_with(UNet, {**params, **sizes}, "unet")
    return BaselineModel(network, settings, total_stride(params["strides"], settings.dims))
