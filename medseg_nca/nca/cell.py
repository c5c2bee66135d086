"""One cell of the automaton; the same weights act in every cell and step."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from medseg_nca.config.model import CellSettings
from medseg_nca.errors import ConfigError
from medseg_nca.nca.perception import Perception
from medseg_nca.nca.update import UpdateRule


class Cell(nn.Module):
    """Perception and update rule over a state of ``channels`` = ``[image | hidden]``.

    The image channels are seen and never change. What is done around a step (``settings.alive``,
    ``clock``, ``stop``) is not the cell's own: see :mod:`medseg_nca.nca.stepwise`.

    Raises:
        ConfigError: if the image leaves no room for the channels of ``alive`` and ``clock``.
    """

    def __init__(self, settings: CellSettings, image_channels: int, dims: int) -> None:
        super().__init__()
        self.settings = settings
        self.dims = dims
        self.channels = settings.channels
        self.image_channels = image_channels
        self.perception = Perception(settings.perception, settings.channels, dims)
        inputs = settings.channels + self.perception.features
        changing = settings.channels - image_channels
        self._check(changing - settings.clock_channels)
        outputs = settings.channels if settings.update.update_image else changing
        self.update = UpdateRule(settings.update, inputs, outputs)

    def _check(self, free: int) -> None:
        """Compare the options with the channels that are neither the image's nor the clock's."""
        settings = self.settings
        if settings.clock is not None and free < 1:
            raise ConfigError(
                f"cell.clock takes {settings.clock_channels} of {self.channels} channels and the "
                f"image {self.image_channels}: nothing is left to change.",
                hint="Set more cell.channels.",
            )
        if settings.alive is not None and settings.alive.channel >= free:
            raise ConfigError(
                f"cell.alive.channel is {settings.alive.channel}, counted after the "
                f"{self.image_channels} channels of the image; there are {free} such channels.",
                hint="Set a lower cell.alive.channel, or more cell.channels.",
            )

    @property
    def radius(self) -> int:
        """How many cells far a signal travels in one step; whether a neighbour lives is one too."""
        return self.perception.radius + (self.settings.alive is not None)

    @property
    def local(self) -> bool:
        """True if a cell depends on its neighbourhood only, so that tiles give the exact result."""
        settings = self.settings
        whole = settings.update.norm == "batch" or settings.stop is not None
        return not whole and settings.perception.padding != "circular"

    def perceive(self, state: Tensor) -> Tensor:
        """Map the state ``(B, *spatial, C)`` to the perceived ``(B, *spatial, features)``."""
        return self.perception(state)  # type: ignore[no-any-return]

    def change(self, perceived: Tensor) -> Tensor:
        """Map ``(cells, C + features)`` to the change ``(cells, C)``, zero for the image."""
        delta: Tensor = self.update(perceived)
        return F.pad(delta[:, -(self.channels - self.image_channels) :], (self.image_channels, 0))
