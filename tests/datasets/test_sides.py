"""Choose the cases of one side of a split."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from medseg_nca.datasets.redraw import SEEN
from medseg_nca.datasets.sides import choose_side
from medseg_nca.datasets.splits import Split
from medseg_nca.errors import DataError


@dataclass(frozen=True)
class Named:
    id: str


ITEMS = tuple(Named(name) for name in "abcd")
SPLIT = Split(train=("a", "b"), test=("c", "z"), dataset_hash="h")


def test_a_side_of_the_split_is_taken_by_id() -> None:
    found = choose_side(ITEMS, SPLIT, "test")
    assert found.items == (Named("c"),)
    assert (found.side, found.reason) == ("test", "The test cases of the run's split.")
    assert (found.notes, found.split_hash, found.unsplit) == ((), "h", False)


def test_all_cases_come_with_a_note_on_those_that_the_model_has_seen() -> None:
    found = choose_side(ITEMS, SPLIT, "all", noun="images", whole="labelled images")
    assert found.items == ITEMS
    assert found.reason == "All labelled images, as asked."
    assert found.notes == (
        "3 of these images are in the run's split; the model has seen some of them.",
    )
    assert found.split_hash is None


@pytest.mark.parametrize(
    ("split", "learned", "reason", "notes"),
    [
        (Split(train=("x",)), False, "The run never split this data set", ()),
        (None, False, "The run never split this data set", ()),
        (None, True, "It is not known how the run split this data set", (SEEN,)),
    ],
)
def test_a_data_set_that_was_never_split_is_taken_whole(
    split: Split | None, learned: bool, reason: str, notes: tuple[str, ...]
) -> None:
    found = choose_side(ITEMS, split, "test", learned=learned)
    assert found.items == ITEMS
    assert (found.side, found.unsplit) == ("all", True)
    assert found.reason == f"{reason}: all its cases are evaluated."
    assert found.notes == notes


@pytest.mark.parametrize("split", [None, SPLIT])
def test_an_unknown_side_is_refused_whatever_is_known(split: Split | None) -> None:
    with pytest.raises(DataError, match="Unknown split 'tests'") as error:
        choose_side(ITEMS, split, "tests")
    assert error.value.hint == "Use one of: test, val, train, all."


def test_a_side_without_a_case_is_refused() -> None:
    with pytest.raises(DataError, match="The run's split has no val case"):
        choose_side(ITEMS, SPLIT, "val")
    with pytest.raises(DataError, match="has 2 images, and none of them is among the images"):
        choose_side(ITEMS[:1], SPLIT, "test", noun="images", source="the data set's own split")
