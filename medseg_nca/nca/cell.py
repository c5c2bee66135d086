"""One cell of the automaton; the same weights act in every cell and step."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from medseg_nca.config.model import CellSettings
from medseg_nca.nca.perception import Perception
from medseg_nca.nca.update import UpdateRule


class Cell(nn.Module):
    """Perception and update rule over a state of ``channels`` = ``[image | hidden]``.

    The image channels are seen and never change.
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
        outputs = settings.channels if settings.update.update_image else changing
        self.update = UpdateRule(settings.update, inputs, outputs)

    @property
    def radius(self) -> int:
        """How many cells far a signal travels in one step."""
        return self.perception.radius

    @property
    def local(self) -> bool:
        """True if a cell depends on its neighbourhood only, so that tiles give the exact result."""
        settings = self.settings
        return settings.update.norm != "batch" and settings.perception.padding != "circular"

    def perceive(self, state: Tensor) -> Tensor:
        """Map the state ``(B, *spatial, C)`` to the perceived ``(B, *spatial, features)``."""
        return self.perception(state)  # type: ignore[no-any-return]

    def change(self, perceived: Tensor) -> Tensor:
        """Map ``(cells, C + features)`` to the change ``(cells, C)``, zero for the image."""
        delta: Tensor = self.update(perceived)
        return F.pad(delta[:, -(self.channels - self.image_channels) :], (self.image_channels, 0))
