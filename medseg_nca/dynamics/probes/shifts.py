"""The answer to a shifted image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from medseg_nca.config.dynamics import DynamicsSettings
from medseg_nca.dynamics.changes import ImageChange, Shift
from medseg_nca.dynamics.probes._images import ImageProbe
from medseg_nca.io.volume import Volume


class ShiftsProbe(ImageProbe):
    """See :class:`medseg_nca.dynamics.changes.Shift`."""

    name: ClassVar[str] = "shifts"
    title: ClassVar[str] = "Shifted images"
    about: ClassVar[str] = (
        "The image is shifted by whole voxels along each axis, its border values go on, and the "
        "answer is shifted back; what left the image is not compared. Cells of coarse levels then "
        "cover other voxels."
    )
    order: ClassVar[int] = 60

    def changes(self, image: Volume, settings: DynamicsSettings) -> Sequence[ImageChange]:
        """Implement :meth:`ImageProbe.changes`."""
        return [
            Shift(axis, voxels)
            for axis, length in enumerate(image.shape)
            for voxels in settings.shifts
            if voxels < length
        ]


PROBE = ShiftsProbe()
