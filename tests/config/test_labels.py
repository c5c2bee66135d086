"""The label table: channels, written values and what is refused."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from medseg_nca.config import Label, LabelTable


def test_exclusive_labels_have_a_background_channel() -> None:
    table = LabelTable(labels=(Label(name="a", values=(1,)), Label(name="b", values=(4,), write=2)))
    assert table.channels == 3
    assert table.names == ("a", "b")
    assert [label.written for label in table.labels] == [1, 2]
    assert table.known_values == {0, 1, 4}


def test_regions_overlap_only_in_a_multi_label_table() -> None:
    labels = (Label(name="whole", values=(1, 2)), Label(name="core", values=(2,)))
    table = LabelTable(labels=labels, multi_label=True)
    assert table.channels == 2
    assert table.known_values == {0, 1, 2}
    with pytest.raises(ValidationError, match="multi_label"):
        LabelTable(labels=labels)


@pytest.mark.parametrize(
    ("labels", "complaint"),
    [
        ((), "at least 1"),
        ((Label(name="a", values=(0,)),), "background"),
        ((Label(name="a", values=(1,)), Label(name="a", values=(2,))), "differ"),
    ],
)
def test_a_table_that_makes_no_sense_is_refused(labels: tuple[Label, ...], complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint):
        LabelTable(labels=labels)
