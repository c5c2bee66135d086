"""The seam of the corruptions: one labelled image in, one labelled image with a fault out."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from medseg_nca.errors import ConfigError
from medseg_nca.io.volume import Volume

# 1 is just visible, 2 is plain, 3 is an image that nobody should read.
STRENGTHS = (1, 2, 3)

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Labelled:
    """An image with its truth, as arrays.

    Attributes:
        image: float32 ``(C, *S)``.
        truth: integers ``(1, *S)`` with source numbers.
        spacing: size of a voxel in mm, per axis of the array.
    """

    image: Array
    truth: NDArray[Any]
    spacing: tuple[float, ...]


class Corruption(ABC):
    """One kind of fault that an image can have.

    Attributes:
        about: what it does, and what the three strengths are, in a sentence.
    """

    about: ClassVar[str]

    @abstractmethod
    def apply(self, case: Labelled, strength: int, rng: np.random.Generator) -> Labelled:
        """Return the image with the fault, and the truth that belongs to it.

        Args:
            case: 2D or 3D; it is not changed.
            strength: one of :data:`STRENGTHS`.
            rng: decides what is random.
        """


def corrupted(
    corruption: Corruption, image: Volume, truth: Volume, strength: int, seed: int | Sequence[int]
) -> tuple[Volume, Volume]:
    """Return an image with a fault, and the truth that belongs to it.

    Both keep the affine of the image, also where the fault turns or cuts the array: the header then
    says something else than the voxels, as it does in files with this fault.

    Args:
        corruption: the kind of fault.
        image: ``(C, *S)``.
        truth: ``(1, *S)`` on the same grid.
        strength: one of :data:`STRENGTHS`.
        seed: decides what is random.

    Raises:
        ConfigError: if there is no such strength.
    """
    if strength not in STRENGTHS:
        allowed = ", ".join(map(str, STRENGTHS))
        raise ConfigError(f"The strength of a fault is one of {allowed}, not {strength}.")
    given = Labelled(image.array.astype(np.float32), truth.array, image.spacing)
    found = corruption.apply(given, strength, np.random.default_rng(seed))
    arrays = (np.ascontiguousarray(found.image), np.ascontiguousarray(found.truth))
    return image.with_array(arrays[0]), truth.with_array(arrays[1])


def fault_seed(case: str, kind: str, strength: int) -> int:
    """Return what decides the random part of a fault, the same in every process and version.

    Args:
        case: id of the case.
        kind: name of the corruption.
        strength: one of :data:`STRENGTHS`.
    """
    text = f"{case}\0{kind}\0{strength}"
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()[:8])


def amplitude(image: Array) -> Array:
    """Return the spread of each channel, the distance of its 1st and 99th percentile; shape (C,).

    It is 1 where a channel is constant.
    """
    low, high = np.percentile(image.reshape(len(image), -1), (1, 99), axis=1)
    return np.where(high > low, high - low, 1).astype(np.float32)


def long_axes(image: Array) -> list[int]:
    """Return the spatial axes of ``(C, *S)`` with more than one voxel; all axes if none has."""
    shape = image.shape[1:]
    return [axis for axis, n in enumerate(shape) if n > 1] or list(range(len(shape)))


def per_channel(values: Array, dims: int) -> Array:
    """Return one value for each channel in a shape that fits an image ``(C, *S)``."""
    return values.reshape(-1, *(1,) * dims)
