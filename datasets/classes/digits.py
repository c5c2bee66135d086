"""Handwritten digits that come with scikit-learn: 1,797 images of 8 x 8 pixels, ten classes.

The test part of "Optical Recognition of Handwritten Digits" (Alpaydin and Kaynak 1998, UCI). The
data set does not say who wrote a digit, so one writer may be on several sides of a split.
"""

from __future__ import annotations

import hashlib
from functools import partial
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from medseg_nca.datasets.classes.base import ClassData, ClassImage


class DigitsLayout:
    """The layout of the built-in digits; the name ``digits`` stands in the place of a path."""

    layout = "scikit-learn's handwritten digits, with options.data=digits and no --data"
    rank = 0.0

    def recognises(self, path: Path) -> bool:
        """Implement :class:`ClassLayout`; a folder of that name comes first."""
        return str(path) == "digits" and not path.exists()

    def open(self, path: Path) -> ClassData:
        """Implement :class:`ClassLayout`."""
        from sklearn.datasets import load_digits

        images, labels = load_digits(return_X_y=True)
        images = images.reshape(-1, 8, 8)
        content = images.tobytes() + labels.tobytes()
        return ClassData(
            name="digits",
            format="digits",
            classes=tuple(str(number) for number in range(10)),
            images=tuple(
                ClassImage(f"digit_{place:04d}", partial(_picture, image), str(int(label)))
                for place, (image, label) in enumerate(zip(images, labels, strict=True))
            ),
            digest=lambda: hashlib.sha256(content).hexdigest(),
            named=False,
        )


def _picture(image: NDArray[Any]) -> NDArray[Any]:
    """Turn rows and columns into an image ``(1, x, y)``."""
    return image.T[None]


LAYOUT = DigitsLayout()
