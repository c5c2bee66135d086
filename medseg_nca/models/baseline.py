"""Baselines: MONAI's networks with the interface of our models, to be trained and run alike."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from medseg_nca.config.bounds import MAX_CELL_VOXELS, plain
from medseg_nca.config.model import GenericModelSettings, PerAxis
from medseg_nca.errors import ConfigError
from medseg_nca.models.base import LevelOutput, RunOptions, SegmentationModel
from medseg_nca.models.geometry import pad_to_multiple, per_axis
from medseg_nca.models.views import View, ViewSpec
from medseg_nca.nca.window import cut_to
from medseg_nca.suggest import unknown


class BaselineModel(SegmentationModel):
    """A network that maps an image to logits of the same size.

    Args:
        network: maps ``(B, in_channels, *spatial)`` to ``(B, out_channels, *spatial)``.
        settings: the model's settings, with the numbers of channels given.
        multiple: number of voxels, per axis or for all axes. The network takes images whose size
            is a multiple of it; other images are padded.

    Raises:
        ConfigError: if no image can have a size that is a multiple of ``multiple``.
    """

    def __init__(
        self, network: nn.Module, settings: GenericModelSettings, multiple: PerAxis
    ) -> None:
        super().__init__()
        self.network = network
        self.settings = settings
        self.dims = settings.dims
        self.in_channels, self.out_channels = resolved_channels(settings)
        self.multiple = per_axis(multiple, self.dims, "multiple")
        if min(self.multiple) < 1 or prod(self.multiple) > MAX_CELL_VOXELS:
            raise ConfigError(
                f"model.params of {settings.name}: its strides make images a multiple of "
                f"{self.multiple} voxels; 1 to {MAX_CELL_VOXELS:,} voxels in all are allowed."
            )

    def forward(self, image: Tensor, options: RunOptions | None = None) -> Tensor:
        """Map an image to logits as :meth:`SegmentationModel.forward`; options change nothing.

        Raises:
            ConfigError: if the network could be built with its parameters, but cannot be run.
        """
        padded = pad_to_multiple(image, self.multiple)
        try:
            logits: Tensor = self.network(padded)
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, TypeError, ValueError) as error:
            raise ConfigError(
                f"model.params of {self.settings.name}: the network cannot be run on "
                f"{tuple(padded.shape)}: {plain(str(error))}",
                hint="Mend them, or take the defaults.",
            ) from error
        return cut_to(logits, image.shape[2:])

    @property
    def views(self) -> tuple[ViewSpec, ...]:
        """Implement :attr:`SegmentationModel.views`: the whole image at full resolution."""
        return (ViewSpec((1,) * self.dims),)

    def training_outputs(self, views: Sequence[View], seed: int) -> list[LevelOutput]:
        """Implement :meth:`SegmentationModel.training_outputs`: one level."""
        return [LevelOutput(self(views[0].image))]


def resolved_channels(settings: GenericModelSettings) -> tuple[int, int]:
    """Return (in_channels, out_channels).

    Raises:
        ConfigError: if one of them is not set.
    """
    if settings.in_channels is None or settings.out_channels is None:
        raise ConfigError(
            f"Model {settings.name!r} needs in_channels and out_channels.",
            hint="They come from the data; without data, set them in the model's settings.",
        )
    return settings.in_channels, settings.out_channels


def total_stride(strides: Sequence[PerAxis], dims: int) -> tuple[int, ...]:
    """Return, per axis, the factor by which the bottleneck is smaller than the image."""
    steps = [per_axis(stride, dims, "strides") for stride in strides]
    return tuple(prod(step[axis] for step in steps) for axis in range(dims))


def call_with(network: Callable[..., nn.Module], params: dict[str, Any], name: str) -> nn.Module:
    """Build a network from its parameters.

    Raises:
        ConfigError: for an unknown parameter, or a value that the network refuses; the message
            names it.
    """
    known = [p for p in inspect.signature(network).parameters if p != "self"]
    for key in params:
        if key not in known:
            raise ConfigError(unknown(f"parameter of {name}", key, known))
    try:
        return network(**params)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"model.params of {name}: {plain(str(error))}") from error
