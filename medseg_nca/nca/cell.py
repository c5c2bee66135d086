"""The rule of the automaton, which every cell follows with the same weights in every step."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from medseg_nca.config.model import CellSettings
from medseg_nca.errors import ConfigError
from medseg_nca.nca.parts import make_perception, make_update_rule
from medseg_nca.nca.update_rules.base import CellShape


class Cell(nn.Module):
    """The perception and the update rule of a cell, whose state is ``[image | hidden]``.

    A cell sees the image channels, but never changes them. The options of the settings
    (:attr:`CellSettings.options`) act around a step, and :mod:`medseg_nca.nca.stepwise` carries
    them out.

    Args:
        settings: number of channels, perception, update rule and options.
        image_channels: number of the first channels of the state, which hold the image.
        dims: number of spatial axes, 2 or 3.

    Attributes:
        channels: number of all channels of the state, those of the image included.

    Raises:
        ConfigError: if the image leaves no room for the channels that ``alive`` and ``clock`` need,
            or there is no such perception or update rule.
        PluginError: if one of these is another package's and cannot be used.
    """

    def __init__(self, settings: CellSettings, image_channels: int, dims: int) -> None:
        super().__init__()
        self.settings = settings
        self.dims = dims
        self.channels = settings.channels
        self.image_channels = image_channels
        self.perception = make_perception(settings.perception, settings.channels, dims)
        changing = settings.channels - image_channels
        self._check(changing - settings.clock_channels)
        self.update = make_update_rule(
            settings.update,
            CellShape(
                settings.channels, image_channels, self.perception.features,
                settings.channels if settings.update.update_image else changing,
            ),
        )  # fmt: skip

    def _check(self, free: int) -> None:
        """Refuse options that need more channels than are free.

        Args:
            free: number of channels that belong neither to the image nor to the clock.
        """
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
    def hidden(self) -> slice:
        """The channels that the update rule changes: neither those of the image nor the clock's."""
        return slice(self.image_channels, self.channels - self.settings.clock_channels)

    @property
    def radius(self) -> int:
        """How many cells far a signal travels in one step.

        With ``alive``, whether a neighbour lives travels one cell further.
        """
        return self.perception.radius + (self.settings.alive is not None)

    @property
    def local(self) -> bool:
        """Whether a cell depends on its neighbourhood alone.

        Tiles then give the result of the whole grid. They do not where the perception, batch
        statistics or ``stop`` look at all cells, or where circular padding joins opposite borders.
        """
        apart = self.perception.local and self.update.local
        settings = self.settings
        return apart and settings.stop is None and settings.perception.padding != "circular"

    def perceive(self, state: Tensor) -> Tensor:
        """Return what the cells of a state ``(B, *spatial, C)`` perceive of their neighbourhood.

        Returns:
            The perceived values ``(B, *spatial, features)``, without the state itself.
        """
        return self.perception(state)  # type: ignore[no-any-return]

    def change(self, perceived: Tensor) -> Tensor:
        """Return by how much cells change, ``(cells, C)``; image channels do not change.

        Args:
            perceived: state and perceived values of each cell, ``(cells, C + features)``.
        """
        delta: Tensor = self.update(perceived)
        return F.pad(delta[:, -(self.channels - self.image_channels) :], (self.image_channels, 0))
