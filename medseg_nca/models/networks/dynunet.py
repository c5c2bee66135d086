"""MONAI's DynUNet, the network of nnU-Net (Isensee et al. 2021), a baseline."""

from __future__ import annotations

from typing import Any

from monai.networks.nets import DynUNet

from medseg_nca.config.model import GenericModelSettings
from medseg_nca.models.baseline import BaselineModel, call_with, resolved_channels, total_stride

_DEFAULTS: dict[str, Any] = {
    "filters": (16, 32, 64, 128),
    "kernel_size": (3, 3, 3, 3),
    "strides": (1, 2, 2, 2),
    "upsample_kernel_size": (2, 2, 2),
    "norm_name": "instance",
}


def build(settings: GenericModelSettings) -> BaselineModel:
    """Build ``monai.networks.nets.DynUNet``; ``settings.params`` are its arguments."""
    inputs, outputs = resolved_channels(settings)
    params = {**_DEFAULTS, **settings.params}
    sizes = {"spatial_dims": settings.dims, "in_channels": inputs, "out_channels": outputs}
    network = call_with(DynUNet, {**params, **sizes}, "dynunet")
    return BaselineModel(network, settings, total_stride(params["strides"], settings.dims))
