"""Label numbers to channels and back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medseg_nca.config import Label, LabelTable
from medseg_nca.errors import ConfigError, ImageError
from medseg_nca.transforms.encode import (
    decode_channels,
    encode_labels,
    present_values,
    value_counts,
)

TABLE = LabelTable(
    labels=(Label(name="liver", values=(5,)), Label(name="lesion", values=(2, 3), write=9))
)
REGIONS = LabelTable(
    labels=(Label(name="whole", values=(1, 2, 4), write=2), Label(name="core", values=(1, 4))),
    multi_label=True,
)


def test_exclusive_labels_are_channel_numbers() -> None:
    encoded = encode_labels(np.array([[0, 5, 2], [3, 5, 0]]), TABLE)
    assert encoded.dtype == np.uint8
    assert encoded.tolist() == [[[0, 1, 2], [2, 1, 0]]]


def test_regions_overlap() -> None:
    encoded = encode_labels(np.array([0, 1, 2, 4]), REGIONS)
    assert encoded.tolist() == [[0, 1, 1, 1], [0, 1, 0, 1]]


def test_decoding_writes_the_numbers_of_the_table() -> None:
    probabilities = np.array([[0.6, 0.2, 0.1], [0.3, 0.7, 0.2], [0.1, 0.1, 0.7]])
    assert decode_channels(probabilities, TABLE).tolist() == [0, 5, 9]
    regions = np.array([[0.4, 0.5, 0.9], [0.2, 0.1, 0.8]])
    assert decode_channels(regions, REGIONS).tolist() == [0, 2, 1]


@pytest.mark.parametrize(("value", "kind"), [(255, np.uint8), (-1, np.int16), (40_000, np.uint16)])
def test_the_type_is_the_smallest_that_holds_the_numbers(value: int, kind: type) -> None:
    table = LabelTable(labels=(Label(name="a", values=(value,)),))
    decoded = decode_channels(np.array([[0.1], [0.9]]), table)
    assert decoded.dtype == kind
    assert decoded.tolist() == [value]


@pytest.mark.parametrize("strange", [7, -2, 300_000])
def test_unknown_numbers_are_named(strange: int) -> None:
    with pytest.raises(ImageError, match=rf"label values {strange} are not in .*known: 0, 2, 3, 5"):
        encode_labels(np.array([0, 5, strange]), TABLE)


@given(
    st.lists(st.integers(-300, 70_000).filter(bool), min_size=1, max_size=5, unique=True),
    st.integers(0, 2**32 - 1),
)
def test_encoding_and_decoding_are_inverse(values: list[int], seed: int) -> None:
    table = LabelTable(labels=tuple(Label(name=f"n{v}", values=(v,)) for v in values))
    label_map = np.random.default_rng(seed).choice([0, *values], (3, 4, 2))
    encoded = encode_labels(label_map, table)
    probabilities = np.eye(len(values) + 1)[encoded[0]].transpose(3, 0, 1, 2)
    np.testing.assert_array_equal(decode_channels(probabilities, table), label_map)


@pytest.mark.parametrize("offset", [0, -5, 2**20])
def test_counting(offset: int) -> None:
    array = np.array([[1, 1], [3, 1]]) + offset
    assert value_counts(array) == {1 + offset: 3, 3 + offset: 1}
    assert present_values(array) == (1 + offset, 3 + offset)


def test_more_labels_than_a_prepared_label_map_holds_are_refused() -> None:
    labels = tuple(Label(name=f"l{v}", values=(v,)) for v in range(1, 257))
    assert encode_labels(np.array([255]), LabelTable(labels=labels[:-1])).max() == 255
    with pytest.raises(ConfigError, match="256 labels, but 255"):
        encode_labels(np.array([256]), LabelTable(labels=labels))
