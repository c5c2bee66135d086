"""Bad cases and images through the command line: a clear word, and the others go on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.cli.bad_input.stages import CASES, image_of, preprocess, truncate
from tests.cli.runner import complains, files_below, half_written, run


def label_of(data: Path, case: str = CASES[1]) -> Path:
    return data / "labelsTr" / f"{case}.nii.gz"


def rewrite(
    path: Path,
    change: Callable[[NDArray[Any]], NDArray[Any]] = lambda array: array,
    shift: float = 0,
) -> None:
    image: Any = nib.load(path)
    affine = image.affine.copy()
    affine[0, 3] += shift
    nib.Nifti1Image(change(np.asarray(image.dataobj)), affine).to_filename(path)


def with_value(value: float) -> Callable[[NDArray[Any]], NDArray[Any]]:
    def change(array: NDArray[Any]) -> NDArray[Any]:
        changed = array.astype(np.float32)
        changed[3, 3] = value
        return changed

    return change


def four_axes(array: NDArray[Any]) -> NDArray[Any]:
    return np.repeat(array.reshape(*array.shape[:2], 1, 1), 3, axis=3)


def shape_of(path: Path) -> tuple[int, ...]:
    image: Any = nib.load(path)
    return tuple(image.shape)


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


# Name: (which file, what becomes of it, what `data check` calls it, words of the other commands).
FAULTS: dict[str, tuple[Callable[[Path], Path], Callable[[Path], object], str, str]] = {
    "missing image": (image_of, Path.unlink, "missing_file", ""),
    "missing label": (label_of, Path.unlink, "missing_file", ""),
    "folder": (image_of, a_folder, "missing_file", ""),
    "empty file": (image_of, lambda p: p.write_bytes(b""), "image_unusable", "is empty"),
    "no image": (image_of, lambda p: p.write_text("hello"), "image_unusable", "damaged"),
    "truncated": (image_of, truncate, "image_unusable", "truncated"),
    "truncated label": (label_of, truncate, "label_unusable", "truncated"),
    "shape": (label_of, lambda p: rewrite(p, lambda a: a[:-3]), "shape_differs", "shape"),
    "affine": (label_of, lambda p: rewrite(p, shift=50), "affine_differs", "affine"),
    "values": (label_of, lambda p: rewrite(p, lambda a: a + 70), "unknown_label_value", "70"),
    "fraction": (label_of, lambda p: rewrite(p, with_value(0.5)), "label_unusable", "0.5"),
    "4D image": (image_of, lambda p: rewrite(p, four_axes), "wrong_dims", ""),
    "4D label": (label_of, lambda p: rewrite(p, four_axes), "label_unusable", "is 4D"),
    "NaN": (image_of, lambda p: rewrite(p, with_value(np.nan)), "image_unusable", "1 of"),
    "Inf": (image_of, lambda p: rewrite(p, with_value(np.inf)), "image_unusable", "1 of"),
    "constant": (
        image_of, lambda p: rewrite(p, lambda a: np.full_like(a, 7)), "constant_image", "constant",
    ),
}  # fmt: skip
NOT_IN_THE_IMAGE = {"missing label", "truncated label", "shape", "affine", "values", "fraction",
                    "4D label"}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_bad_case_is_found_by_the_check(data: Path, fault: str) -> None:
    which, spoil, kind, _ = FAULTS[fault]
    spoil(which(data))
    result = run("data", "check", data, "--json", "-")
    complains(result, data, "error(s) in 4 cases")
    found = [f for f in json.loads(result.stdout)["findings"] if f["code"] == kind]
    assert found
    assert CASES[1] in json.dumps(found)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_bad_case_does_not_stop_the_preprocessing_of_others(
    data: Path, tmp_path: Path, fault: str
) -> None:
    which, spoil, _, words = FAULTS[fault]
    spoil(which(data))
    out = tmp_path / "out"
    complains(preprocess(data, out), "1 of 4 cases failed", CASES[1], words, "Next: ", code=3)
    assert len(list((out / "cases").iterdir())) == 3
    assert not half_written(tmp_path)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_bad_case_alone_leaves_nothing_to_evaluate(
    data: Path, trained: Path, tmp_path: Path, fault: str
) -> None:
    table = json.loads((data / "dataset.json").read_text())
    table["training"] = [case for case in table["training"] if CASES[1] in case["image"]]
    (data / "dataset.json").write_text(json.dumps(table))
    which, spoil, _, words = FAULTS[fault]
    spoil(which(data))
    out = tmp_path / "out"
    result = run("evaluate", "--model", trained, "--data", data, "--split", "all", "--out", out)
    complains(result, which(data) if fault != "4D image" else CASES[1], words)
    assert not out.exists()


@pytest.mark.parametrize("fault", sorted(set(FAULTS) - NOT_IN_THE_IMAGE))
def test_a_bad_image_does_not_stop_the_prediction_of_others(
    data: Path, trained: Path, tmp_path: Path, fault: str
) -> None:
    which, spoil, _, words = FAULTS[fault]
    spoil(which(data))
    out = tmp_path / "out"
    result = run("predict", "--model", trained, "--out", out, image_of(data), label_of(data))
    code = 3 if image_of(data).is_file() else 2  # a path that is no file is refused at once
    complains(result, image_of(data), words, code=code)
    assert out.exists() == (code == 3)
    assert not (out / image_of(data).name).exists()
    assert not half_written(tmp_path)


def test_a_picture_with_other_channels(trained: Path, tmp_path: Path) -> None:
    from PIL import Image

    path = tmp_path / "colour.png"
    values = np.random.default_rng(0).integers(0, 255, (20, 24, 3), dtype=np.uint8)
    Image.fromarray(values).save(path)
    result = run("predict", "--model", trained, "--out", tmp_path / "out", path)
    assert result.exit_code in {2, 3}
    assert f"{path}: channels: 3; needed: 1" in result.stderr
    assert files_below(tmp_path / "out") in ([], ["predictions.json"])


def test_evaluating_without_labels_or_with_others(
    data: Path, trained: Path, tmp_path: Path
) -> None:
    evaluate = ("evaluate", "--model", trained, "--out", tmp_path / "out", "--data")
    plain = tmp_path / "plain"
    shutil.copytree(data / "imagesTr", plain / "images")
    complains(run(*evaluate, plain), plain, "has no labelled case", "predict")
    table = json.loads((data / "dataset.json").read_text())
    (data / "dataset.json").write_text(json.dumps({**table, "labels": {"0": "no", "1": "liver"}}))
    complains(run(*evaluate, data), "posterior", "liver (1)")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("shape", [(1, 20), (24, 1), (2, 2)])
def test_tiny_images_are_predicted(
    data: Path, trained: Path, tmp_path: Path, shape: tuple[int, int]
) -> None:
    path = image_of(data)
    rewrite(path, lambda array: array[: shape[0], : shape[1]].copy())
    expected = shape_of(path)
    assert run("predict", "--model", trained, "--out", tmp_path / "out", path).exit_code == 0
    assert shape_of(tmp_path / "out" / path.name) == expected


def test_odd_names_are_names(data: Path, trained: Path, tmp_path: Path) -> None:
    folder, out = tmp_path / "odd names", tmp_path / "out [bold]"
    folder.mkdir()
    names = ["with space", "new\nline", "ünï 脳", "-dash", "[red]x", "a.b", "quote'\""]
    for name in names:
        shutil.copy(image_of(data), folder / f"{name}.nii.gz")
    (folder / "link.nii.gz").symlink_to(image_of(data))
    assert run("predict", "--model", trained, "--out", out, folder).exit_code == 0
    expected = {f"{name}.nii.gz" for name in [*names, "link"]}
    assert set(files_below(out)) == expected | {"predictions.json"}
