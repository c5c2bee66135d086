"""What a model keeps of its training's split, so that it is found again without the run folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from medseg_nca.config.data import SplitSettings
from medseg_nca.datasets.splits import Split, read_split

SPLIT = "split.json"
SEEN = "The model was trained on a part of these images; the results are too good."
# Characters of ids that a model keeps; its description must stay small.
_MOST = 200_000


def kept_of(settings: SplitSettings, split: Split) -> dict[str, Any]:
    """The facts ``split`` and ``listed`` of a model.

    Args:
        settings: by which the data set was divided.
        split: what came of it.

    Returns:
        ``split``: the settings, by which the same draw can be made again; None where a file decided
        it. ``listed``: the sides that the file named; None where there are too many cases.
    """
    if settings.file is None:
        return {"split": settings, "listed": None}
    small = sum(map(len, split.side("all"))) <= _MOST
    return {"split": None, "listed": split if small else None}


def split_file(folder: Path) -> Split | None:
    """The ``split.json`` in the folder of a model, or in the run folder around it; None if none.

    Raises:
        DataError: if it is damaged.
    """
    for place in (folder, folder.parent):
        if (place / SPLIT).is_file():
            return read_split(place / SPLIT)
    return None


def split_again(
    folder: Path,
    digest: str,
    drawn: SplitSettings | None,
    listed: Split | None,
    draw: Callable[[SplitSettings], Split],
) -> Split | None:
    """How a training divided its data set.

    Args:
        folder: of the model.
        digest: hash of the data set, which must be that of the training.
        drawn: the fact ``split`` of the model; see :func:`kept_of`.
        listed: its fact ``listed``.
        draw: divides the data set by settings.

    Returns:
        The split of the run folder, or else what the model keeps; None if neither is there.

    Raises:
        DataError: if ``split.json`` is damaged.
    """
    found = split_file(folder)
    if found is not None and found.dataset_hash == digest:
        return found
    if listed is not None:
        return listed
    return None if drawn is None else draw(drawn)
