"""What an evaluation is given: splits, labels, cases that fail, and folders."""

from __future__ import annotations

import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from click.testing import CliRunner

from medseg_nca.cases.evaluation_inputs import match_labels
from medseg_nca.cli.main import cli
from medseg_nca.datasets.splits import Split, write_split
from medseg_nca.errors import DataError, ImageError, OutputError, PartialFailure
from medseg_nca.inference.bundle import LoadedModel
from medseg_nca.tasks.segmentation import evaluation
from tests.pipelines.evaluate.blocks import (
    AFFINE,
    CASES,
    SHAPE,
    anatomy,
    bundle,
    data_set,
    request,
    table,
)


@pytest.mark.parametrize(
    ("side", "expected"),
    [("test", ["c3"]), ("val", ["c2"]), ("train", ["c0", "c1"]), ("all", list(CASES))],
)
def test_the_split_of_the_run_is_used(tmp_path: Path, side: str, expected: list[str]) -> None:
    data = data_set(tmp_path / "data", CASES)
    model = bundle(tmp_path / "run" / "model")
    split = Split(train=("c0", "c1"), val=("c2",), test=("c3",))
    write_split(split, tmp_path / "run" / "split.json")
    tree = evaluation.run(request(model, data, tmp_path / "out", split=side)).tree
    assert [case["id"] for case in tree["cases"]] == expected
    assert tree["split"]["name"] == side


def test_a_changed_data_set_does_not_let_training_cases_in(tmp_path: Path) -> None:
    data = data_set(tmp_path / "data", {**CASES, "new": 0})
    model = bundle(tmp_path / "run" / "model")
    split = Split(train=("c0", "c1"), val=("c2",), test=("c3", "gone"), dataset_hash="before")
    write_split(split, tmp_path / "run" / "split.json")
    tree = evaluation.run(request(model, data, tmp_path / "out")).tree
    assert [case["id"] for case in tree["cases"]] == ["c3"]
    assert len(tree["notes"]) == 4
    assert "does not say what the images" in tree["notes"][-1]
    other = data_set(tmp_path / "other", {"x": 0, "y": 1})
    tree = evaluation.run(request(model, other, tmp_path / "out")).tree
    assert [case["id"] for case in tree["cases"]] == ["x", "y"]
    trained = data_set(tmp_path / "trained", {"c0": 0, "c1": 1})
    with pytest.raises(DataError, match="--split all"):
        evaluation.run(request(model, trained, tmp_path / "out"))


def test_the_reader_is_warned_of_training_data_without_a_split(tmp_path: Path) -> None:
    data = data_set(tmp_path / "data", CASES)
    model = bundle(tmp_path / "model")
    spec = model.spec.model_copy(update={"training_data_hash": evaluation.open_source(data).hash})
    told = LoadedModel(model.model, spec, model.folder, model.device)
    tree = evaluation.run(request(told, data, tmp_path / "out")).tree
    assert "trained on this very data set" in tree["notes"][0]


def test_a_case_that_fails_is_named_and_the_others_go_on(
    tmp_path: Path, model: LoadedModel
) -> None:
    data = data_set(tmp_path / "data", CASES)
    (data / "imagesTr/c1.nii.gz").write_bytes(b"not a volume")
    wrong = nib.Nifti1Image(anatomy()[:-1], AFFINE)
    nib.save(wrong, data / "labelsTr/c2.nii.gz")
    result = evaluation.run(request(model, data, tmp_path / "out"))
    assert set(result.failed) == {"c1", "c2"}
    assert [case["id"] for case in result.tree["cases"]] == ["c0", "c3"]
    assert [failure["id"] for failure in result.tree["failed"]] == ["c1", "c2"]
    assert "c1 failed" in (tmp_path / "out" / "report.html").read_text()
    with pytest.raises(PartialFailure, match=r"2 of 4 cases failed; .*metrics\.json") as caught:
        result.raise_for_failures()
    assert caught.value.failures == result.failed


def broken(case: str, data: Path) -> None:
    label = data / "labelsTr/c0.nii.gz"
    if case == "value":
        nib.save(nib.Nifti1Image(anatomy() * 3, AFFINE), label)
    elif case == "affine":
        nib.save(nib.Nifti1Image(anatomy(), np.diag([1, 1, 1, 1.0])), label)
    elif case == "truncated":
        label.write_bytes(label.read_bytes()[:-20])
    elif case == "nan":
        image = np.full(SHAPE, np.nan, dtype=np.float32)
        nib.save(nib.Nifti1Image(image, AFFINE), data / "imagesTr/c0.nii.gz")


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("value", r"c0\.nii\.gz: has label values outside the table: 3 \(\d+ voxels\), 6"),
        ("affine", r"c0\.nii\.gz: is not on the grid of its image"),
        ("truncated", r"c0\.nii\.gz"),
        ("nan", r"c0\.nii\.gz: .* NaN"),
    ],
)
def test_bad_files_are_named(
    tmp_path: Path,
    model: LoadedModel,
    caplog: pytest.LogCaptureFixture,
    case: str,
    message: str,
) -> None:
    data = data_set(tmp_path / "data", {"c0": 0})
    broken(case, data)
    with pytest.raises(DataError, match="all 1 cases failed"):
        evaluation.run(request(model, data, tmp_path / "out"))
    assert re.search(message, caplog.text)
    assert not (tmp_path / "out").exists()


def test_an_unwritable_folder_is_named(tmp_path: Path, model: LoadedModel) -> None:
    data = data_set(tmp_path / "data", {"c0": 0})
    (tmp_path / "out").write_text("a file")
    with pytest.raises(OutputError, match="out"):
        evaluation.run(request(model, data, tmp_path / "out"))


def test_labels_are_matched_by_name_whatever_its_case() -> None:
    model = table({"left lung": 1, "Heart": 2})
    match = match_labels(model, table({"HEART": 7, "Left_Lung": 9, "spleen": 3}))
    assert [label.values for label in match.truth.labels] == [(9,), (7,)]
    assert match.known_values == {0, 3, 7, 9}
    assert len(match.notes) == 1
    assert "spleen" in match.notes[0]


def test_labels_are_matched_by_number_when_no_name_agrees() -> None:
    model = table({"front": 1, "back": 2})
    match = match_labels(model, table({"label_2": 2, "label_1": 1}))
    assert match.truth.names == ("label_1", "label_2")
    assert "by number" in match.notes[0]
    assert match_labels(model, None).truth == model


def test_labels_that_do_not_fit_are_refused() -> None:
    with pytest.raises(DataError, match=r"no label for 'back'.*front \(1\), side \(2\)"):
        match_labels(table({"front": 1, "back": 2}), table({"front": 1, "side": 2}))
    with pytest.raises(DataError, match="no label for 'front'"):
        match_labels(table({"front": 1}), table({"left": 5}))


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--set", "evaluation.nsd_tolerence=2"], "did you mean 'nsd_tolerance'"),
        (["--data", "nowhere"], "nowhere"),
        (["--model", "nowhere"], "nowhere"),
    ],
)
def test_the_command_says_what_is_wrong(tmp_path: Path, extra: list[str], message: str) -> None:
    data = data_set(tmp_path / "data", {"c0": 0})
    bundle(tmp_path / "model")
    options = [
        "--model",
        str(tmp_path / "model"),
        "--data",
        str(data),
        "--out",
        str(tmp_path / "o"),
    ]
    done = CliRunner().invoke(cli, ["evaluate", *options, *extra])
    assert done.exit_code == 2, done.output
    assert message in done.output
    assert not (tmp_path / "o").exists()


def test_a_case_without_label_is_refused(tmp_path: Path) -> None:
    from medseg_nca.cases.evaluate_case import read_case
    from medseg_nca.datasets.base import Case

    with pytest.raises(ImageError, match="x"):
        read_case(Case("x", (tmp_path / "x.nii.gz",)), match_labels(table({"a": 1}), None))
