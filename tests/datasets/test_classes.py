"""Data sets of classes: what is found, what is refused, how they are divided."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from medseg_nca.config.data import SplitSettings
from medseg_nca.datasets.class_split import missing_notes, side_counts, split_classes
from medseg_nca.datasets.classes.base import ClassData, ClassImage
from medseg_nca.datasets.find_classes import open_classes
from medseg_nca.errors import ConfigError, DataError
from tests.io.dicom.build import classic, pixels, write


def picture(path: Path, value: int = 0, size: tuple[int, int] = (5, 4)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full(size[::-1], value, np.uint8)).save(path)


def npz(path: Path, **arrays: np.ndarray) -> Path:
    np.savez_compressed(path, **arrays)
    return path


def data_of(**classes: int) -> ClassData:
    images = tuple(
        ClassImage(f"{name}_{k}", lambda: np.zeros((1, 2, 2)), name)
        for name, count in classes.items()
        for k in range(count)
    )
    return ClassData("d", "test", tuple(classes), images, lambda: "0" * 64)


def test_folders_are_classes(tmp_path: Path) -> None:
    for name in ("dog/b.png", "cat/a.png", "cat/.hidden.png", "dog/notes.txt"):
        picture(tmp_path / name) if name.endswith("png") else (tmp_path / name).write_text("x")
    data = open_classes(tmp_path)
    assert data.classes == ("cat", "dog")
    assert [(i.id, i.truth, i.split) for i in data.images] == [
        ("cat/a.png", "cat", None), ("dog/b.png", "dog", None)
    ]  # fmt: skip
    assert data.images[0].read().shape == (1, 5, 4)


def test_folders_of_sides_prescribe_them(tmp_path: Path) -> None:
    for name in ("train/a/1.png", "train/b/2.png", "Test/a/3.png", "valid/b/4.png"):
        picture(tmp_path / name)
    data = open_classes(tmp_path)
    assert {i.id: i.split for i in data.images} == {
        "Test/a/3.png": "test", "train/a/1.png": "train", "train/b/2.png": "train",
        "valid/b/4.png": "val",
    }  # fmt: skip
    split = split_classes(data, SplitSettings())
    assert (split.train, split.val, split.test) == (
        ("train/a/1.png", "train/b/2.png"), ("valid/b/4.png",), ("Test/a/3.png",)
    )  # fmt: skip
    assert missing_notes(data, split) == (
        "No image of a is in the val part of the split.",
        "No image of b is in the test part of the split.",
    )


def test_the_hash_is_that_of_contents_and_classes(tmp_path: Path) -> None:
    picture(tmp_path / "a/1.png"), picture(tmp_path / "b/2.png")
    first = open_classes(tmp_path).hash
    picture(tmp_path / "b/2.png", 9)
    assert open_classes(tmp_path).hash != first


def test_an_inner_folder_is_a_patient(tmp_path: Path) -> None:
    for patient in range(5):
        for k in range(2):
            picture(tmp_path / f"a/p{patient}/{k}.png"), picture(tmp_path / f"b/q{patient}/{k}.png")
    split = split_classes(open_classes(tmp_path), SplitSettings())
    sides = [{Path(name).parent for name in split.side(s)} for s in ("train", "val", "test")]
    assert all(sides)
    assert not sides[0] & sides[1] | sides[0] & sides[2] | sides[1] & sides[2]


def test_a_table_names_patients(tmp_path: Path) -> None:
    picture(tmp_path / "a/1.png"), picture(tmp_path / "b/2.png")
    (tmp_path / "patients.csv").write_text("image,patient\na/1.png,X\n")
    assert [i.patient for i in open_classes(tmp_path).images] == ["X", None]
    (tmp_path / "patients.csv").write_text("image,patient\na/none.png,X\n")
    with pytest.raises(DataError, match=r"patients.csv: names 'a/none.png'"):
        open_classes(tmp_path)


def test_volumes_are_turned_towards_ras(tmp_path: Path) -> None:
    array = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    for name, affine in (("a", np.diag([-1.0, 1, 1, 1])), ("b", np.eye(4))):
        (tmp_path / name).mkdir()
        nib.save(nib.Nifti1Image(array, affine), tmp_path / name / "v.nii.gz")
    turned, plain = (image.read() for image in open_classes(tmp_path).images)
    assert np.array_equal(plain[0], array)
    assert np.array_equal(turned[0], array[::-1])


def test_a_folder_of_a_dicom_series_is_one_volume(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path / name / "scan", classic(pixels((3, 4, 5)), study=name), name="{:04d}")
    images = open_classes(tmp_path).images
    assert [(image.id, image.truth) for image in images] == [("a/scan", "a"), ("b/scan", "b")]
    assert sorted(images[0].read().shape) == [1, 3, 4, 5]


@pytest.mark.parametrize(
    ("names", "match"),
    [
        (("a/1.png", "a/2.png"), "all 2 images are of one class, 'a'"),
        (("a/1.png", "b/2.png", "3.png"), r"3\.png: lies in no folder of a class"),
        (("train/a/1.png", "train/2.png"), r"2\.png: lies in no folder of a class"),
        (("train/a/1.png", "b/2.png"), "folders of sides .train. and others .b."),
    ],
)
def test_wrong_folders_are_refused_by_name(
    tmp_path: Path, names: tuple[str, ...], match: str
) -> None:
    for name in names:
        picture(tmp_path / name)
    with pytest.raises(DataError, match=match):
        open_classes(tmp_path)


def test_what_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file or folder") as error:
        open_classes(tmp_path / "none")
    assert "digits" in str(error.value.hint)
    (tmp_path / "a").mkdir()
    with pytest.raises(DataError, match="there is no image in it"):
        open_classes(tmp_path)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((2, 3, 4), (1, 4, 3)),
        ((2, 3, 4, 3), (3, 4, 3)),
        ((2, 3, 4, 5), (1, 3, 4, 5)),
        ((2, 3, 4, 5, 1), (1, 3, 4, 5)),
        ((2, 3, 4, 5, 3), (3, 3, 4, 5)),
    ],
)
def test_npz_of_pictures_and_volumes(
    tmp_path: Path, shape: tuple[int, ...], expected: tuple[int, ...]
) -> None:
    images = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    path = npz(
        tmp_path / "m.npz", train_images=images, train_labels=np.array([[4], [7]]),
        test_images=images[:1], test_labels=np.array([[7]]),
    )  # fmt: skip
    data = open_classes(path)
    assert data.classes == ("4", "7")
    assert [(i.id, i.truth, i.split) for i in data.images] == [
        ("train_00000", "4", "train"), ("train_00001", "7", "train"), ("test_00000", "7", "test")
    ]  # fmt: skip
    read = data.images[1].read()
    assert read.shape == expected
    if len(shape) == 3:  # rows are y
        assert read[0, 3, 1] == images[1, 1, 3]


@pytest.mark.parametrize(
    ("arrays", "match"),
    [
        ({"images": np.zeros((2, 3))}, r"images has the shape \(2, 3\)"),
        ({"images": np.zeros((2, 0, 3))}, r"shape \(2, 0, 3\)"),
        ({"labels": np.zeros(2)}, "holds neither train_images nor images"),
        ({"images": np.zeros((2, 3, 3))}, "there are images, but no labels"),
        ({"images": np.zeros((2, 3, 3)), "labels": np.zeros(3)}, "2 images and 3 labels"),
        ({"images": np.zeros((2, 3, 3)), "labels": np.zeros((2, 14))}, "several labels"),
        ({"images": np.zeros((2, 3, 3)), "labels": np.array([0.5, 1])}, "fractions"),
        ({"images": np.zeros((2, 3, 3)), "labels": np.array([np.inf, 1])}, "not finite"),
        ({"images": np.zeros((2, 3, 3)), "labels": np.array([np.nan, 1])}, "not finite"),
        ({"images": np.zeros((0, 3, 3)), "labels": np.zeros((0, 1))}, "no image in it"),
        ({"images": np.zeros((2, 3, 3)), "labels": np.zeros((0, 1))}, "labels is empty"),
    ],
)
def test_a_wrong_npz_is_refused_by_name(
    tmp_path: Path, arrays: dict[str, np.ndarray], match: str
) -> None:
    path = npz(tmp_path / "m.npz", **arrays)
    with pytest.raises(DataError, match=match) as error:
        open_classes(path)
    assert "m.npz" in error.value.message


def test_nan_is_refused_when_the_image_is_read(tmp_path: Path) -> None:
    images = np.zeros((2, 3, 3))
    images[1, 0, 0] = np.nan
    data = open_classes(npz(tmp_path / "m.npz", images=images, labels=np.arange(2)))
    data.images[0].read()
    with pytest.raises(DataError, match=r"m\.npz: 1 of 9 values are NaN"):
        data.images[1].read()


def test_digits_need_no_file() -> None:
    data = open_classes(Path("digits"))
    assert len(data.images) == 1797
    assert data.classes == tuple("0123456789")
    assert data.images[0].truth == "0"
    assert data.images[0].read().shape == (1, 8, 8)


def test_classes_can_be_named(tmp_path: Path) -> None:
    path = npz(tmp_path / "m.npz", images=np.zeros((2, 3, 3)), labels=np.arange(2))
    assert [i.truth for i in open_classes(path, names=("no", "yes")).images] == ["no", "yes"]
    with pytest.raises(ConfigError, match=r"options.class_names: 1 different names for 2 classes"):
        open_classes(path, names=("no",))


def test_every_class_has_its_share_on_every_side() -> None:
    data = data_of(a=100, b=20)
    split = split_classes(data, SplitSettings(val=0.1, test=0.2))
    counts = side_counts(data, split)
    assert {side: dict(found) for side, found in counts.items()} == {
        "train": {"a": 70, "b": 14}, "val": {"a": 10, "b": 2}, "test": {"a": 20, "b": 4}
    }  # fmt: skip
    assert split_classes(data, SplitSettings(val=0.1, test=0.2)) == split
    assert split_classes(data, SplitSettings(val=0.1, test=0.2, seed=1)).test != split.test


def test_folds_cover_each_image_once() -> None:
    data = data_of(a=12, b=9)
    parts = [split_classes(data, SplitSettings(test=0, folds=3, fold=k)) for k in range(3)]
    assert sorted(name for part in parts for name in part.val) == sorted(i.id for i in data.images)


@pytest.mark.parametrize("settings", [SplitSettings(), SplitSettings(folds=2, fold=0)])
def test_too_few_images_of_a_class_are_refused_by_name(settings: SplitSettings) -> None:
    with pytest.raises(DataError, match="The class 'b' has 2 images, too few"):
        split_classes(data_of(a=50, b=2), settings)


def test_a_class_without_training_images_is_refused(tmp_path: Path) -> None:
    for name in ("train/a/1.png", "test/a/2.png", "test/b/3.png"):
        picture(tmp_path / name)
    with pytest.raises(DataError, match="The class 'b' has no image in the training part"):
        split_classes(open_classes(tmp_path), SplitSettings())


@pytest.mark.parametrize(
    ("folders", "task"),
    [
        (("images", "targets"), "regression"),
        (("images", "labels"), "segmentation"),
        (("imagesTr", "labelsTr", "imagesTs"), "segmentation"),
    ],
)
def test_images_beside_their_answers_are_no_classes(
    tmp_path: Path, folders: tuple[str, ...], task: str
) -> None:
    for name in folders:
        picture(tmp_path / name / "1.png")
    with pytest.raises(DataError, match=f"of the task {task}") as caught:
        open_classes(tmp_path)
    assert caught.value.hint is not None
    assert f"task: {task}" in caught.value.hint
