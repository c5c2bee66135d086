"""What an output format must offer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from medseg_nca.io.volume import Volume


@dataclass(frozen=True)
class Writer:
    """A format.

    Attributes:
        suffix: of new files.
        write: writes a volume to a path whose folder exists; ``OSError`` and ``OutputError`` may
            come out of it, the caller takes care of half-written files.
        dims: the numbers of axes that the format can hold.
    """

    suffix: str
    write: Callable[[Volume, Path], None]
    dims: tuple[int, ...] = (2, 3)
