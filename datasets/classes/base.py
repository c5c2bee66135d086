"""The seam of data sets whose images each belong to one class."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from numpy.typing import NDArray

from medseg_nca.datasets.base import Side


@dataclass(frozen=True)
class ClassImage:
    """One image and what is known of it; its pixels are read when they are asked for.

    Attributes:
        id: unique in the data set; names the image in results.
        read: returns the array ``(C, x, y)`` or ``(C, x, y, z)``; raises ``ImageError``.
        truth: name of its class, None where nobody says.
        patient: images of one patient stay on one side of a split; None is a patient of its own.
        split: a side that the data set itself prescribes.
    """

    id: str
    read: Callable[[], NDArray[Any]]
    truth: str | None = None
    patient: str | None = None
    split: Side | None = None


@dataclass(frozen=True)
class ClassData:
    """A data set of classes.

    Attributes:
        name: of the data set.
        format: name of its layout.
        classes: their names, in the order of the outputs of a model.
        images: all of them, each with a class.
        digest: computes the hash of the contents; may read every file.
        named: whether an image keeps its id when others are added; a mere number is no name.
        own_names: what the data set itself calls the classes, where they were given other names.
        notes: what a reader of results should know, for example what was left out.
    """

    name: str
    format: str
    classes: tuple[str, ...]
    images: tuple[ClassImage, ...]
    digest: Callable[[], str]
    named: bool = True
    own_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the contents.

        Raises:
            DataError: if a file cannot be read.
        """
        return self.digest()


@runtime_checkable
class ClassLayout(Protocol):
    """One layout: ``datasets/classes/<name>.py`` defines one as ``LAYOUT``.

    Attributes:
        layout: one line that says what such a data set looks like.
        rank: the layout with the lowest is asked first whether it recognises a data set.
    """

    layout: str
    rank: float

    def recognises(self, path: Path) -> bool:
        """Whether the path looks like this layout; it need not exist. Cheap; raises nothing."""

    def open(self, path: Path) -> ClassData:
        """List the images and their classes.

        Raises:
            DataError: if the data set is not what its layout asks for.
        """
