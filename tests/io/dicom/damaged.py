"""Files with changed bytes, or without their end."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from medseg_nca.io.dicom.problems import DicomError


def read_damaged(path: Path, seed: int, read: Callable[[], object]) -> None:
    """Read 25 damaged versions of a file: each is read, or refused by an error of the package."""
    whole = path.read_bytes()
    generator = np.random.default_rng(seed)
    for _ in range(25):
        data = bytearray(whole)
        for place in generator.integers(132, len(data), 4):
            data[place] = generator.integers(256)
        path.write_bytes(bytes(data[: generator.integers(1, len(data) + 1)]))
        with contextlib.suppress(DicomError):
            read()
