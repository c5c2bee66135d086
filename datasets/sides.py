"""Choose the cases of one side of a split, for an evaluation of any task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from medseg_nca.datasets.redraw import SEEN
from medseg_nca.datasets.splits import Split
from medseg_nca.errors import DataError

SIDES_OR_ALL = ("test", "val", "train", "all")
RUN_SPLIT = "the run's split"


class HasId(Protocol):
    """A case of any task."""

    @property
    def id(self) -> str:
        """The name of the case, unique in its data set."""


Item = TypeVar("Item", bound=HasId)


@dataclass(frozen=True)
class ChosenSide(Generic[Item]):
    """The cases that are evaluated, and why these.

    Attributes:
        items: the cases, at least one.
        side: "train", "val", "test" or "all".
        reason: one sentence for the reader of the results.
        notes: what the reader should beware of.
        split_hash: hash of the data set when it was split; None where no split chose the cases.
        unsplit: whether a side was asked for, and the split names none of the cases.
    """

    items: tuple[Item, ...]
    side: str
    reason: str
    notes: tuple[str, ...] = ()
    split_hash: str | None = None
    unsplit: bool = False


def check_side(side: str) -> None:
    """Refuse a side that does not exist.

    Raises:
        DataError: if it is unknown; the message names the sides.
    """
    if side not in SIDES_OR_ALL:
        raise DataError(f"Unknown split {side!r}.", hint=f"Use one of: {', '.join(SIDES_OR_ALL)}.")


def choose_side(
    items: Sequence[Item],
    split: Split | None,
    side: str,
    *,
    learned: bool = False,
    noun: str = "cases",
    whole: str = "",
    source: str = RUN_SPLIT,
) -> ChosenSide[Item]:
    """Choose the cases of one side of a split.

    A data set of which the split names no case is taken whole. A case is chosen if its id is in the
    split, even if the data set has changed since: cases that a model was trained on must not come
    into a test because a file was added.

    Args:
        items: the cases of the data set.
        split: the split; None if it is not known.
        side: "train", "val", "test", or "all" for every case of the data set.
        learned: whether the model is known to have learned from this very data set.
        noun: what the cases are called, in the plural.
        whole: what all cases of the data set are called; "" takes the noun.
        source: whose split it is.

    Raises:
        DataError: if the side is unknown, or none of its cases is in the data set.
    """
    check_side(side)
    whole = whole or noun
    known = set() if split is None else set(split.side("all")) & {item.id for item in items}
    if side == "all" or split is None or not known:
        return _everything(tuple(items), len(known), side, learned, noun, whole)
    wanted = set(split.side(side))
    hint = (
        f"Choose another --split, or --split all to take all {whole}; the model has seen those of "
        "train."
    )
    if not wanted:
        raise DataError(
            f"{source[0].upper()}{source[1:]} has no {side} {noun.removesuffix('s')}.", hint=hint
        )
    chosen = tuple(item for item in items if item.id in wanted)
    if not chosen:
        raise DataError(
            f"The {side} side of {source} has {len(wanted)} {noun}, and none of them is among the "
            f"{whole} of the data set.",
            hint=hint,
        )
    reason = f"The {side} {noun} of {source}."
    return ChosenSide(chosen, side, reason, split_hash=split.dataset_hash)


def _everything(
    items: tuple[Item, ...], known: int, side: str, learned: bool, noun: str, whole: str
) -> ChosenSide[Item]:
    notes: tuple[str, ...] = ()
    if known:
        notes = (
            f"{known} of these {noun} are in the run's split; the model has seen some of them.",
        )
    elif learned:
        notes = (SEEN,)
    if side == "all":
        return ChosenSide(items, "all", f"All {whole}, as asked.", notes)
    why = (
        "It is not known how the run split this data set"
        if learned
        else "The run never split this data set"
    )
    return ChosenSide(items, "all", f"{why}: all its {whole} are evaluated.", notes, unsplit=True)
