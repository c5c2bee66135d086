"""Heads: they map the state of each cell, a row of ``(..., C)``, to its logits."""

from __future__ import annotations

from torch import Tensor, nn

from medseg_nca.config.model import NcaModelSettings


class ChannelHead(nn.Module):
    """A head without weights: the state channels after the image are the logits.

    The published models (Med-NCA, M3D-NCA) do it this way.
    """

    def __init__(self, image_channels: int, out_channels: int) -> None:
        super().__init__()
        self.window = slice(image_channels, image_channels + out_channels)

    def forward(self, state: Tensor) -> Tensor:
        """Map the state ``(..., C)`` to the logits ``(..., K)``."""
        return state[..., self.window]


class HiddenHead(nn.Module):
    """A head that computes logits from all hidden channels, by a linear layer or a small MLP."""

    def __init__(self, image_channels: int, hidden: int, out_channels: int, width: int) -> None:
        super().__init__()
        self.image_channels = image_channels
        layers: list[nn.Module] = [nn.Linear(hidden, out_channels)]
        if width:
            layers = [nn.Linear(hidden, width), nn.ReLU(), nn.Linear(width, out_channels)]
        self.layers = nn.Sequential(*layers)

    def forward(self, state: Tensor) -> Tensor:
        """Map the state ``(..., C)`` to the logits ``(..., K)``."""
        return self.layers(state[..., self.image_channels :])  # type: ignore[no-any-return]


def build_head(settings: NcaModelSettings, image_channels: int, out_channels: int) -> nn.Module:
    """Return the head that the settings name."""
    if settings.head == "channels":
        return ChannelHead(image_channels, out_channels)
    width = settings.cell.update.hidden if settings.head == "mlp" else 0
    hidden = settings.cell.channels - image_channels
    return HiddenHead(image_channels, hidden, out_channels, width)
