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


@dataclass(frozen=True)
class ResultWriter:
    """A format that holds a whole result: labels with codes, algorithm, source, figures.

    Attributes:
        suffix: of new files.
        write: writes a segmentation to a path whose folder exists, with the options as keyword
            arguments; errors as those of :class:`Writer`.
        needs_dicom: whether the image must have come from DICOM.
        options: names of the keyword arguments.
    """

    suffix: str
    write: Callable[..., None]
    needs_dicom: bool = True
    options: tuple[str, ...] = ()
