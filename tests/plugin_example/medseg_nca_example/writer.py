"""An output format: label map and affine as a compressed NumPy archive."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from medseg_nca.io.volume import Volume
from medseg_nca.io.writers.base import Writer


def _write(volume: Volume, path: Path) -> None:
    with path.open("wb") as stream:
        np.savez_compressed(stream, labels=volume.array[0], affine=volume.affine)


WRITER = Writer(".npz", _write)
