"""The interface of data sets whose images each belong to one class."""

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
    """One image of a data set; its pixels are read when they are asked for.

    Attributes:
        id: name of the image in results, unique in the data set.
        read: returns the array ``(C, x, y)`` or ``(C, x, y, z)``; raises ``ImageError``.
        truth: name of its class; None if it is not known.
        patient: patient of the image; images of one patient stay on one side of a split. None
            stands for a patient of its own.
        split: the side that the data set itself prescribes; None if it prescribes none.
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
        name: name of the data set.
        format: name of its layout.
        classes: names of the classes, in the order of the outputs of a model.
        images: all images, each with a class.
        digest: computes the hash of the contents; it may read every file.
        named: whether an image keeps its id when other images are added, which it does not if the
            id is only a number.
        own_names: names that the data set gives to the classes, if they were given other names.
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
        """The SHA-256 of the contents.

        Raises:
            DataError: if a file cannot be read.
        """
        return self.digest()


@runtime_checkable
class ClassLayout(Protocol):
    """A layout of data sets; ``datasets/classes/<name>.py`` defines one as ``LAYOUT``.

    Attributes:
        layout: one line that says what such a data set looks like.
        rank: layouts with a lower rank are asked earlier whether they recognise a data set.
    """

    layout: str
    rank: float

    def recognises(self, path: Path) -> bool:
        """Return whether a path, which need not exist, looks like this layout.

        It takes little time and raises no error.
        """

    def open(self, path: Path) -> ClassData:
        """List the images and their classes.

        Raises:
            DataError: if the data set is not what its layout asks for.
        """
