"""Splits: disjoint, complete, by patient, repeatable."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medseg_nca.config.data import SplitSettings
from medseg_nca.datasets.base import Case, DataSet, Side
from medseg_nca.datasets.splits import Split, join_splits, make_split, read_split, write_split
from medseg_nca.errors import ConfigError, DataError

LABEL = Path("label.nii.gz")


def dataset(cases: Sequence[Case]) -> DataSet:
    return DataSet("x", Path(), "folders", 3, ("image",), tuple(cases))


def cases(
    count: int, patients: Sequence[int | None] = (), sides: Sequence[Side | None] = ()
) -> list[Case]:
    padded = [*patients, *[None] * count]
    prescribed = [*sides, *[None] * count]
    return [
        Case(f"c{i:03d}", (Path("i"),), LABEL, split=prescribed[i],
             patient=None if padded[i] is None else f"p{padded[i]}")
        for i in range(count)
    ]  # fmt: skip


patients = st.lists(st.integers(0, 12) | st.none(), min_size=1, max_size=40)
seeds = st.integers(0, 5)


@given(patients, seeds, st.floats(0, 0.45), st.floats(0, 0.45))
def test_sides_are_disjoint_complete_and_keep_patients_together(
    owners: list[int | None], seed: int, val: float, test: float
) -> None:
    data = dataset(cases(len(owners), owners))
    settings = SplitSettings(val=val, test=test, seed=seed)
    split = make_split(data, settings)
    listed = [*split.train, *split.val, *split.test]
    assert sorted(listed) == [case.id for case in data.cases]
    assert split.train
    side_of = {name: side for side in ("train", "val", "test") for name in split.side(side)}
    for case in data.cases:
        assert (
            len({side_of[c.id] for c in data.cases if c.patient and c.patient == case.patient}) < 2
        )
    assert make_split(dataset(data.cases[::-1]), settings) == split


@given(patients, seeds)
def test_every_side_gets_a_patient_where_there_are_enough(
    owners: list[int | None], seed: int
) -> None:
    data = dataset(cases(len(owners), owners))
    count = len({c.patient or c.id for c in data.cases})
    split = make_split(data, SplitSettings(val=0.01, test=0.01, seed=seed))
    assert bool(split.val) == (count >= 2)
    assert bool(split.test) == (count >= 3)


@given(st.integers(2, 6), st.integers(0, 30), seeds, st.sampled_from([0.0, 0.2]))
def test_folds_take_turns_and_share_the_test(folds: int, more: int, seed: int, test: float) -> None:
    data = dataset(cases(folds + more))
    splits = [
        make_split(data, SplitSettings(test=test, folds=folds, fold=k, seed=seed))
        for k in range(folds)
    ]
    assert len({split.test for split in splits}) == 1
    turns = [name for split in splits for name in split.val]
    assert sorted([*turns, *splits[0].test]) == [case.id for case in data.cases]
    sizes = [len(split.val) for split in splits]
    assert max(sizes) - min(sizes) <= 1
    assert all(split.train for split in splits)


@given(st.lists(st.sampled_from(["train", "val", "test", None]), min_size=3, max_size=20), seeds)
def test_prescribed_sides_are_kept(sides: list[Side | None], seed: int) -> None:
    if {"train", None}.isdisjoint(sides):
        sides = [*sides, "train"]
    data = dataset(cases(len(sides), sides=sides))
    split = make_split(data, SplitSettings(seed=seed))
    prescribed = {case.id: case.split for case in data.cases}
    assert {i for i, side in prescribed.items() if side == "test"} <= set(split.test)
    assert {i for i, side in prescribed.items() if side == "val"} <= set(split.val)
    assert not {i for i, side in prescribed.items() if side == "train"} & set(split.test)
    if "val" in sides or None in sides:
        trained = {i for i, side in prescribed.items() if side == "train"}
        assert trained <= {*split.train, *split.val}


def test_hand_counted() -> None:
    split = make_split(dataset(cases(20)), SplitSettings(val=0.15, test=0.2))
    assert [len(split.side(s)) for s in ("train", "val", "test", "all")] == [13, 3, 4, 20]
    assert (split.seed, split.fold, split.folds) == (0, None, None)


def test_another_seed_gives_another_split() -> None:
    data = dataset(cases(30))
    assert make_split(data, SplitSettings(seed=1)) != make_split(data, SplitSettings(seed=2))


def test_an_added_case_does_not_shuffle_the_others() -> None:
    before = make_split(dataset(cases(50)), SplitSettings())
    after = make_split(dataset(cases(51)), SplitSettings())
    moved = set(before.test) ^ (set(after.test) - {"c050"})
    assert len(moved) <= 2


def test_cases_without_a_label_are_on_no_side() -> None:
    data = dataset([*cases(4), Case("bare", (Path("i"),))])
    assert "bare" not in make_split(data, SplitSettings()).side("all")


def test_validation_is_drawn_from_a_prescribed_training_part() -> None:
    sides: list[Side | None] = ["train"] * 8 + ["test"] * 2
    split = make_split(dataset(cases(10, sides=sides)), SplitSettings(val=0.2))
    assert split.test == ("c008", "c009")
    assert [len(split.train), len(split.val)] == [6, 2]


def test_the_hash_is_taken_along() -> None:
    assert make_split(dataset(cases(3)), SplitSettings(), "abc").dataset_hash == "abc"


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        (SplitSettings(val=0.5, test=0.5), "must be less than 1"),
        (SplitSettings(folds=5, fold=5), "5 folds, 0 to 4, not 5"),
    ],
)
def test_settings_that_make_no_sense(settings: SplitSettings, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        make_split(dataset(cases(9)), settings)


def test_fewer_patients_than_folds() -> None:
    with pytest.raises(DataError, match="4 folds need at least 4 patients, and 3 are left"):
        make_split(dataset(cases(3)), SplitSettings(folds=4))


def test_nothing_labelled() -> None:
    with pytest.raises(DataError, match="No case has a label map"):
        make_split(dataset([Case("a", (Path("i"),))]), SplitSettings())


def test_all_prescribed_to_the_test() -> None:
    with pytest.raises(DataError, match="no patient to train on"):
        make_split(dataset(cases(2, sides=["test", "test"])), SplitSettings())


def test_a_patient_prescribed_to_two_sides() -> None:
    data = dataset(cases(2, [1, 1], ["train", "test"]))
    with pytest.raises(DataError, match="on two sides"):
        make_split(data, SplitSettings())


def test_written_and_read_again(tmp_path: Path) -> None:
    split = make_split(dataset(cases(9)), SplitSettings(folds=3, fold=1), "abc")
    write_split(split, tmp_path / "split.json")
    assert read_split(tmp_path / "split.json") == split


def test_nnunet_splits(tmp_path: Path) -> None:
    file = tmp_path / "splits_final.json"
    folds = [{"train": ["c000", "c001"], "val": ["c002"]}, {"train": ["c002"], "val": ["c000"]}]
    file.write_text(json.dumps(folds))
    assert read_split(file).val == ("c002",)
    split = make_split(dataset(cases(3)), SplitSettings(file=file, fold=1))
    assert (split.train, split.val, split.fold, split.folds) == (("c002",), ("c000",), 1, 2)
    with pytest.raises(ConfigError, match="2 folds in it, so no fold 2"):
        read_split(file, 2)


def test_the_split_of_another_data_set(tmp_path: Path) -> None:
    write_split(Split(train=("c000", "c01")), tmp_path / "s.json")
    with pytest.raises(DataError, match=r"1 case\(s\).*'c01'.*Did you mean"):
        make_split(dataset(cases(3)), SplitSettings(file=tmp_path / "s.json"))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{", "not valid JSON"),
        ('{"val": []}', "is not a split"),
        ("[]", "so no fold 0"),
        ("[3]", "is not a split"),
        ('{"train": ["a"], "val": ["a"]}', "on two sides or listed twice: a"),
        ('{"train": ["a"], "vall": []}', "vall: Extra inputs"),
        ('{"train": [3]}', "train: "),
    ],
)
def test_a_file_that_is_no_split(tmp_path: Path, text: str, complaint: str) -> None:
    (tmp_path / "s.json").write_text(text)
    with pytest.raises((DataError, ConfigError), match=complaint):
        read_split(tmp_path / "s.json")


def test_an_unknown_side() -> None:
    with pytest.raises(ConfigError, match=r"'tset'.*train, val, test, all"):
        Split(train=("a",)).side("tset")


def test_a_file_with_one_split_is_no_cross_validation(tmp_path: Path) -> None:
    """Every fold would be the same split."""
    data, file = dataset(cases(6)), tmp_path / "split.json"
    write_split(make_split(data, SplitSettings()), file)
    with pytest.raises(ConfigError, match="holds one split, not fold 1"):
        make_split(data, SplitSettings(file=file, folds=3, fold=1))
    own = make_split(data, SplitSettings(folds=3, fold=1, test=0))
    write_split(own, file)
    assert make_split(data, SplitSettings(file=file, folds=3, fold=1)) == own


def test_the_test_of_an_ensemble_is_what_no_member_has_seen() -> None:
    """Also where the members were split in different ways: training counts before the rest."""
    folds = [make_split(dataset(cases(12)), SplitSettings(folds=3, fold=n)) for n in range(3)]
    joined = join_splits(folds)
    assert joined.test == folds[0].test
    assert joined.val == ()
    assert set(joined.train) == {*folds[0].train, *folds[0].val}
    one = Split(train=("a",), val=("b", "c"), test=("d", "e", "f"), seed=1, dataset_hash="x")
    two = Split(train=("b", "d"), val=("e",), test=("c", "f", "g"), seed=2, dataset_hash="x")
    assert join_splits([one, two]) == Split(
        train=("a", "b", "d"), val=("c", "e"), test=("f", "g"), dataset_hash="x"
    )
    with pytest.raises(DataError, match="no split"):
        join_splits([])


def test_a_fold_of_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="fold 2 is asked for"):
        make_split(dataset(cases(6)), SplitSettings(fold=2))


def test_a_file_that_divides_a_patient_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "split.json"
    write_split(Split(train=("c000",), test=("c001",)), file)
    make_split(dataset(cases(2, [1, 2])), SplitSettings(file=file))
    assert not caplog.records
    make_split(dataset(cases(2, [1, 1])), SplitSettings(file=file))
    assert "one patient on two sides" in caplog.text
