"""Read pairs, refuse those that teach nothing, and bring the others to the plan's grid."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg_nca.config import PreprocessPlan
from medseg_nca.datasets.pairs import Pair
from medseg_nca.errors import DataError, ImageError
from medseg_nca.io.atomic import atomic_file
from medseg_nca.io.grid import grid_difference
from medseg_nca.io.read import read_image, read_values
from medseg_nca.io.volume import Volume
from medseg_nca.tasks.regression.options import RegressionFacts
from medseg_nca.tasks.regression.values import standardised
from medseg_nca.transforms.grid import to_plan_grid
from medseg_nca.transforms.prepare import prepare
from medseg_nca.work.case_records import content_key

# The target of a cell of the plan's grid is known if at least this share of the cell is known.
_KNOWN_SHARE = 0.5


@dataclass(frozen=True)
class ReadPair:
    """An image and its target on one grid.

    Attributes:
        image: the image ``(C, *S)``.
        target: the target ``(K, *S)`` float32, NaN where it is not known.
    """

    image: Volume
    target: NDArray[np.float32]


def read_pair(pair: Pair, unknown: float | None) -> ReadPair:
    """Read a pair.

    Args:
        pair: the files of the pair.
        unknown: the number that marks an unknown target, besides NaN.

    Raises:
        ImageError: if a file cannot be read, or if the target lies on another grid than its image,
            is known nowhere, or is the same everywhere.
    """
    image, found = read_image(pair.images), read_values(pair.target)
    difference = (
        f"{found.dims} axes and {image.dims}"
        if found.dims != image.dims
        else grid_difference(image, found)
    )
    if difference:
        raise ImageError(
            f"{pair.target}: the target lies on another grid than its image "
            f"{pair.images[0]}: {difference}.",
            hint="Resample the target to its image, or mend the header.",
        )
    target = np.array(found.array, np.float32)
    if unknown is not None:
        target[target == np.float32(unknown)] = np.nan
    for number, channel in enumerate(target):
        _check_channel(pair.target, channel, number if len(target) > 1 else None)
    return ReadPair(image, target)


def _check_channel(path: Path, channel: NDArray[np.float32], number: int | None) -> None:
    name = str(path) if number is None else f"{path}: channel {number}"
    known = channel[~np.isnan(channel)]
    if not known.size:
        raise ImageError(
            f"{name}: no value of the target is known: all are NaN or the number for unknown.",
            hint="Leave this pair out, or check options.unknown.",
        )
    if known.min() == known.max():
        raise ImageError(
            f"{name}: the target is constant (every known value is {known[0]:g}): there is nothing "
            "to learn from it.",
            hint="Check how the file was exported, or leave this pair out.",
        )


def prepare_pair(
    read: ReadPair, facts: RegressionFacts
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Bring a pair to the plan's grid, and standardise its target.

    If the spacing changes, targets are interpolated linearly between known values. A cell is
    unknown if less than half of it is known.

    Returns:
        The image ``(C, *S)``, and the target ``(K, *S)``, which is NaN where it is unknown.

    Raises:
        ImageError: if the image does not fit the plan.
    """
    plan = facts.plan
    prepared = prepare(read.image, plan)
    target = standardised(read.target, facts)
    moved = _moved(read.image.with_array(target), plan)
    return prepared.image, np.ascontiguousarray(moved)


def _moved(target: Volume, plan: PreprocessPlan) -> NDArray[np.float32]:
    array = target.array
    known = ~np.isnan(array)
    if known.all():
        moved, _, _ = to_plan_grid(target, plan, array)
        return np.asarray(moved, np.float32)
    both = np.concatenate([np.where(known, array, 0), known]).astype(np.float32)
    moved, _, _ = to_plan_grid(target.with_array(both), plan, both)
    value, share = np.split(np.asarray(moved, np.float32), 2)
    there = share >= _KNOWN_SHARE
    return np.where(there, value / np.where(there, share, 1), np.nan).astype(np.float32)


class PreparedPairs:
    """Keeps prepared pairs in a folder; each pair is prepared when it is first asked for.

    Args:
        folder: folder of the arrays, created if it does not exist.
        pairs: the pairs by id.
        facts: facts of the run.
        data_hash: hash of the data set, so that arrays of other data are not taken for these.
    """

    def __init__(
        self, folder: Path, pairs: Mapping[str, Pair], facts: RegressionFacts, data_hash: str
    ) -> None:
        self.folder, self.pairs, self.facts = folder, dict(pairs), facts
        decides = facts.model_dump(mode="json", exclude={"prediction"})
        self._key = content_key(decides, data_hash)[:12]

    def load(self, case_id: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return image and target of a case, as :func:`prepare_pair` returns them.

        Raises:
            DataError: if a file cannot be read, or the pair does not fit the plan.
            OutputError: if the arrays cannot be written.
        """
        path = self.folder / f"{case_id}-{self._key}.npz"
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                return arrays["image"], arrays["target"]
        except FileNotFoundError:
            pass
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            path.unlink(missing_ok=True)  # the damaged file is made again
        image, target = prepare_pair(read_pair(self.pairs[case_id], self.facts.unknown), self.facts)
        with atomic_file(path) as temporary, temporary.open("wb") as stream:
            np.savez(stream, image=image, target=target)
        return image, target


def check_like(pair: Pair, read: ReadPair, dims: int, channels: int, outputs: int) -> None:
    """Refuse a pair that has other axes or channels than the first pair of the training.

    Raises:
        DataError: if it does; the message names the file.
    """
    found: Any
    for path, what, found, wanted in (
        (pair.images[0], "axes", read.image.dims, dims),
        (pair.images[0], "channels", read.image.channels, channels),
        (pair.target, "channels", len(read.target), outputs),
    ):
        if found != wanted:
            raise DataError(
                f"{path}: has {found} {what}; {wanted} are needed.",
                hint="All pairs of a data set must have the same axes and channels.",
            )
