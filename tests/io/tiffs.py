"""TIFF files for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import tifffile

ORIENTATION, STRIP_COUNTS, TILE_COUNTS, PHOTOMETRIC = 274, 279, 325, 262


def noise(*shape: int, high: int = 256, kind: Any = np.uint8) -> Any:
    return np.random.default_rng(0).integers(0, high, shape).astype(kind)


def change_tag(path: Path, code: int, change: Any) -> None:
    with tifffile.TiffFile(path, mode="r+") as file:
        tag = file.pages[0].tags[code]
        tag.overwrite(change(tag.value))
