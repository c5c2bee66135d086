"""The answer to an image of another spacing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from medseg_nca.config.dynamics import DynamicsSettings
from medseg_nca.dynamics.changes import ImageChange, Respacing
from medseg_nca.dynamics.probes._images import ImageProbe
from medseg_nca.io.volume import Volume


class SpacingProbe(ImageProbe):
    """See :class:`medseg_nca.dynamics.changes.Respacing`."""

    name: ClassVar[str] = "spacing"
    title: ClassVar[str] = "Images of another spacing"
    about: ClassVar[str] = (
        "The image is resampled to more or fewer voxels, and the answer is brought back. Either "
        "the header tells the new spacing, as that of another scanner would, or it does not, and "
        "everything seems larger or smaller."
    )
    order: ClassVar[int] = 70

    def changes(self, image: Volume, settings: DynamicsSettings) -> Sequence[ImageChange]:
        """Implement :meth:`ImageProbe.changes`."""
        return [Respacing(factor, told) for told in (True, False) for factor in settings.spacings]


PROBE = SpacingProbe()
