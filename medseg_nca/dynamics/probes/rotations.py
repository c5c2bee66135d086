"""The answer to a turned or mirrored image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from medseg_nca.config.dynamics import DynamicsSettings
from medseg_nca.dynamics.changes import PLANE, Flip, ImageChange, QuarterTurn, SmallTurn
from medseg_nca.dynamics.probes._images import ImageProbe
from medseg_nca.io.volume import Volume


class RotationsProbe(ImageProbe):
    """See :class:`medseg_nca.dynamics.changes.QuarterTurn`, ``Flip`` and ``SmallTurn``."""

    name: ClassVar[str] = "rotations"
    title: ClassVar[str] = "Turned and mirrored images"
    about: ClassVar[str] = (
        "The content of the image is turned in the plane of its first two axes, or mirrored along "
        "an axis, under an unchanged header, and the answer is turned back. A model that is "
        "equivariant agrees with its plain answer."
    )
    order: ClassVar[int] = 50

    def changes(self, image: Volume, settings: DynamicsSettings) -> Sequence[ImageChange]:
        """Implement :meth:`ImageProbe.changes`."""
        a, b = (image.spacing[axis] for axis in PLANE)
        return (
            *(QuarterTurn(turns) for turns in (1, 2, 3)),
            *(Flip(axis) for axis in range(image.dims)),
            *(SmallTurn(angle, (a, b)) for angle in settings.angles),
        )


PROBE = RotationsProbe()
