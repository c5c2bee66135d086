"""Preprocessing a data set: what is made, what is kept, what fails."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from medseg_nca.cli.main import cli
from medseg_nca.config import RunSettings
from medseg_nca.config.loading import load_settings
from medseg_nca.datasets.find import open_dataset
from medseg_nca.datasets.hashing import dataset_hash
from medseg_nca.datasets.prepared import PreparedStore, is_prepared
from medseg_nca.errors import ConfigError, DataError, OutputError, PartialFailure
from medseg_nca.job import Job, Progress
from medseg_nca.pipelines.preprocess import PreprocessRequest, run

AFFINE = np.diag([-1.0, -1.0, 2.0, 1.0])


def save(path: Path, array: Any, affine: Any = AFFINE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, affine), path)


def add_case(root: Path, name: str, seed: int = 0, values: tuple[int, ...] = (1, 2)) -> None:
    rng = np.random.default_rng(seed)
    image = rng.normal(100, 20, (10, 12, 7 + seed % 2)).astype(np.float32)
    label = np.zeros(image.shape, np.uint8)
    for place, value in enumerate(values, start=1):
        label[2 * place : 2 * place + 2, 3:8, 2:5] = value
    save(root / "images" / f"{name}.nii.gz", image)
    save(root / "labels" / f"{name}.nii.gz", label)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for number in range(4):
        add_case(tmp_path / "data", f"case_{number}", number)
    return tmp_path / "data"


def settings(*overrides: str) -> RunSettings:
    return load_settings(None, ("preprocess.spacing=[1,1,1]", *overrides))


def times(out: Path) -> dict[str, int]:
    """When the arrays of each case were written."""
    return {path.stem: path.stat().st_mtime_ns for path in (out / "cases").glob("*.npz")}


def changed(before: dict[str, int], out: Path) -> list[str]:
    return sorted(name for name, when in times(out).items() if before.get(name) != when)


def test_a_run_tells_of_the_intensities_of_its_training_part(data: Path, tmp_path: Path) -> None:
    """The one bright case validates: what the model learned from was not as bright."""
    bright = data / "images" / "case_2.nii.gz"
    save(bright, np.asarray(nib.load(bright).dataobj) + 1000)  # type: ignore[attr-defined]
    listed = {"train": ["case_0", "case_1", "case_3"], "val": ["case_2"]}
    (tmp_path / "split.json").write_text(json.dumps(listed))
    wanted = settings(f"data.split.file={tmp_path / 'split.json'}")
    for for_run, brightest in ((True, 200), (False, 1200)):
        out = tmp_path / str(for_run)
        store = run(PreprocessRequest(data, out, wanted, workers=0, for_run=for_run))
        assert PreparedStore.open(out).plan == store.plan
        assert store.plan.training is not None
        assert store.plan.training.intensities is not None
        (known,) = store.plan.training.intensities
        assert brightest - 100 < known.high[1] < brightest
        assert 100 < known.high[0] < 200
        assert known.rough[0] > 0.8
        assert not known.whole


def test_a_folder_of_volumes_becomes_a_prepared_data_set(data: Path, tmp_path: Path) -> None:
    store = run(PreprocessRequest(data, tmp_path / "out", settings()))
    assert [case.id for case in store.cases] == [f"case_{n}" for n in range(4)]
    assert store.labels.names == ("label_1", "label_2")
    assert store.dataset_hash == dataset_hash(open_dataset(data))
    image, label = store.load("case_1")
    # RAS of 1 mm: 8 slices of 2 mm become 15 or 16.
    assert image.shape[:3] == (1, 10, 12)
    assert image.shape[3] in (15, 16)
    assert (image.dtype, label.dtype) == (np.float32, np.uint8)
    assert label.shape == image.shape
    case = store.case("case_1")
    assert case.shape == image.shape[1:]
    assert case.foreground == {"label_1": (label == 1).sum(), "label_2": (label == 2).sum()}
    assert case.images == (data / "images" / "case_1.nii.gz",)
    assert store.plan.spacing == (1, 1, 1)

    again = PreparedStore.open(tmp_path / "out")
    assert again.index == store.index
    assert again.plan == store.plan
    tree = json.loads((tmp_path / "out" / "fingerprint.json").read_text())
    assert tree["cases"] == 4
    assert tree["orientations"] == {"LPS": 4}


def test_a_second_run_makes_nothing(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = run(PreprocessRequest(data, out, settings()))
    before = times(out)
    assert run(PreprocessRequest(data, out, settings())).index == first.index
    assert changed(before, out) == []


def test_a_changed_file_is_made_again_alone(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = run(PreprocessRequest(data, out, settings()))
    before = times(out)
    add_case(data, "case_2", seed=22)
    add_case(data, "case_9", seed=9)
    for folder in ("images", "labels"):
        (data / folder / "case_0.nii.gz").unlink()
    store = run(PreprocessRequest(data, out, settings()))
    assert changed(before, out) == ["case_2", "case_9"]
    assert [case.id for case in store.cases] == ["case_1", "case_2", "case_3", "case_9"]
    assert "case_0" not in times(out)
    assert store.dataset_hash != first.dataset_hash


@pytest.mark.parametrize(
    ("change", "everything"),
    [
        ("preprocess.normalise=percentile", True),
        ("preprocess.spacing=[2,2,2]", True),
        ("preprocess.crop_size=[8,8,8]", False),
        ("training.lr=1e-4", False),
        ("data.labels={labels: [{name: whole, values: [1, 2]}]}", True),
    ],
)
def test_a_changed_setting_makes_what_it_touches(
    data: Path, tmp_path: Path, change: str, everything: bool
) -> None:
    out = tmp_path / "out"
    run(PreprocessRequest(data, out, settings()))
    before = times(out)
    store = run(PreprocessRequest(data, out, settings(change)))
    assert len(changed(before, out)) == (4 if everything else 0)
    if "crop_size" in change:
        assert PreparedStore.open(out).plan.crop_size == (8, 8, 8) == store.plan.crop_size


def test_an_interrupted_run_goes_on(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(PreprocessRequest(data, out, settings()))
    cases: list[int] = []

    def stop_after_two(progress: Progress) -> None:
        if progress.phase == "preparing":
            cases.append(progress.done)
            if progress.done == 2:
                raise KeyboardInterrupt

    other = settings("preprocess.normalise=percentile")
    with pytest.raises(KeyboardInterrupt):
        run(PreprocessRequest(data, out, other, workers=0), Job(stop_after_two))
    assert cases == [0, 1, 2]
    # Half old, half new: nothing that training would take for a data set.
    assert not is_prepared(out)
    (out / "cases" / ".0123abcd.part.case_3.npz").write_bytes(b"what kill -9 left")
    before = times(out)
    assert len(run(PreprocessRequest(data, out, other)).cases) == 4
    assert changed(before, out) == ["case_2", "case_3"]
    assert not list((out / "cases").glob(".*"))


def test_damaged_cache_files_are_made_again(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = run(PreprocessRequest(data, out, settings()))
    path = out / "cases" / "case_1.npz"
    path.write_bytes(path.read_bytes()[:1000])
    (out / "fingerprints" / "case_2.json").write_text("{")
    with pytest.raises(DataError, match=r"case_1\.npz: cannot be read.*preprocess"):
        first.load("case_1")
    before = times(out)
    assert run(PreprocessRequest(data, out, settings())).index == first.index
    assert changed(before, out) == ["case_1"]


def spoil_nan(root: Path) -> None:
    image = np.ones((10, 12, 8), np.float32)
    image[0, 0, :2] = np.nan
    save(root / "images" / "bad.nii.gz", image)


def spoil_truncated(root: Path) -> None:
    path = root / "images" / "bad.nii.gz"
    path.write_bytes(path.read_bytes()[:2000])


def spoil_values(root: Path) -> None:
    label = np.zeros((10, 12, 8), np.uint8)
    label[0, 0, 0] = 77
    save(root / "labels" / "bad.nii.gz", label)


def spoil_shape(root: Path) -> None:
    save(root / "labels" / "bad.nii.gz", np.zeros((10, 12, 9), np.uint8))


def spoil_affine(root: Path) -> None:
    save(root / "labels" / "bad.nii.gz", np.zeros((10, 12, 8), np.uint8), np.eye(4))


def spoil_constant(root: Path) -> None:
    save(root / "images" / "bad.nii.gz", np.full((10, 12, 8), 5, np.int16))


def spoil_4d(root: Path) -> None:
    noise = np.random.default_rng(0).normal(size=(10, 12, 8, 3))
    save(root / "images" / "bad.nii.gz", noise.astype(np.float32))


def spoil_axes(root: Path) -> None:
    save(root / "images" / "bad.nii.gz", np.ones((10, 12), np.float32))
    save(root / "labels" / "bad.nii.gz", np.ones((10, 12), np.uint8))


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (spoil_nan, "images/bad.nii.gz: 2 of 960 values are NaN or infinite"),
        (spoil_truncated, "images/bad.nii.gz: cannot be read as NIfTI, it is damaged or truncated"),
        (spoil_values, "labels/bad.nii.gz: label values 77 are not in the label table"),
        (spoil_shape, "labels/bad.nii.gz: the label map lies on another grid than its image"),
        (spoil_affine, "another grid"),
        (spoil_constant, "images/bad.nii.gz: is constant (every value is 5)"),
        (spoil_4d, "images/bad.nii.gz: is 4D with 3 volumes; needed: 1 (image)"),
        (spoil_axes, "images/bad.nii.gz: has 2 axes (10, 12); the data set has 3"),
    ],
)
def test_a_bad_case_is_reported_and_does_not_stop_the_others(
    data: Path, tmp_path: Path, spoil: Callable[[Path], None], reason: str
) -> None:
    add_case(data, "bad", seed=1)
    spoil(data)
    table = "data.labels={labels: [{name: a, values: [1]}, {name: b, values: [2]}]}"
    with pytest.raises(PartialFailure, match="1 of 5 cases failed") as caught:
        run(PreprocessRequest(data, tmp_path / "out", settings(table)))
    assert reason in caught.value.failures["bad"]
    assert caught.value.exit_code == 3
    store = PreparedStore.open(tmp_path / "out")
    assert len(store.cases) == 4
    assert [case.id for case in store.failed] == ["bad"]
    assert reason in store.failed[0].error
    # Mended, only this case is made.
    before = times(tmp_path / "out")
    add_case(data, "bad", seed=1)
    assert len(run(PreprocessRequest(data, tmp_path / "out", settings(table))).cases) == 5
    assert changed(before, tmp_path / "out") == ["bad"]


def test_nothing_usable_is_an_error_of_the_data(
    data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for path in (data / "images").iterdir():
        save(path, np.full((10, 12, 8), 5, np.int16))
    with pytest.raises(DataError, match="none of the 4 cases can be prepared"):
        run(PreprocessRequest(data, tmp_path / "out", settings()))
    assert "case_0" in caplog.text
    assert "is constant" in caplog.text
    assert not is_prepared(tmp_path / "out")


@pytest.mark.slow
def test_processes_give_the_same(data: Path, tmp_path: Path) -> None:
    add_case(data, "bad", seed=1)
    spoil_nan(data)
    stores = []
    for workers in (0, 2):
        out = tmp_path / f"out_{workers}"
        with pytest.raises(PartialFailure) as caught:
            run(PreprocessRequest(data, out, settings(), workers))
        assert "NaN" in caught.value.failures["bad"]
        stores.append(PreparedStore.open(out))
    assert stores[0].index == stores[1].index
    for case in stores[0].cases:
        for one, two in zip(stores[0].load(case.id), stores[1].load(case.id), strict=True):
            np.testing.assert_array_equal(one, two)


def test_grey_and_colour_pictures_together(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for folder in ("images", "labels"):
        (tmp_path / "data" / folder).mkdir(parents=True)
    for number, shape in enumerate([(20, 16), (20, 16, 3), (24, 16, 3)]):
        picture = rng.integers(0, 255, shape).astype(np.uint8)
        Image.fromarray(picture).save(tmp_path / "data" / "images" / f"{number}.png")
        mask = (rng.random(shape[:2]) < 0.3).astype(np.uint8) * 255
        Image.fromarray(mask).save(tmp_path / "data" / "labels" / f"{number}.png")
    store = run(
        PreprocessRequest(
            tmp_path / "data",
            tmp_path / "out",
            load_settings(None, ["preprocess.colour=grey", "model.dims=2"]),
        )
    )
    assert store.plan.dims == 2
    assert store.plan.in_channels == 1
    assert [store.load(case.id)[0].shape for case in store.cases][:2] == [(1, 16, 20)] * 2
    assert store.labels.names == ("label_255",)
    with pytest.raises(PartialFailure) as caught:
        run(PreprocessRequest(tmp_path / "data", tmp_path / "other", load_settings(None)))
    assert any("colour=grey" in reason for reason in caught.value.failures.values())


def test_unlabelled_cases_are_prepared_too(data: Path, tmp_path: Path) -> None:
    (data / "labels" / "case_3.nii.gz").unlink()
    store = run(PreprocessRequest(data, tmp_path / "out", settings()))
    assert len(store.labelled) == 3
    assert store.load("case_3")[1] is None
    assert store.case("case_3").foreground == {}


def test_labels_that_nobody_names_must_be_few(data: Path, tmp_path: Path) -> None:
    for path in (data / "labels").iterdir():
        save(path, np.arange(960).reshape(10, 12, 8).astype(np.int16))
    for path in (data / "images").iterdir():
        save(path, np.random.default_rng(0).normal(size=(10, 12, 8)))
    with pytest.raises(DataError, match=r"959 different numbers.*data\.labels"):
        run(PreprocessRequest(data, tmp_path / "out", settings()))


def test_the_sample_size_is_a_multiple_of_the_levels_and_fits_the_memory(
    data: Path, tmp_path: Path
) -> None:
    plan = run(PreprocessRequest(data, tmp_path / "out", settings("model=m3d_nca"))).plan
    # m3d_nca's coarse level has cells of 4 voxels; the median is 10 x 12 x 14 or so.
    assert plan.crop_size == (12, 12, 16)
    little = settings("model=m3d_nca", "preprocess.memory_budget_gb=1e-5")
    assert run(PreprocessRequest(data, tmp_path / "out", little)).plan.crop_size == (4, 4, 4)


def test_places_that_cannot_be_written_to(data: Path, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="the folder of the data set itself"):
        run(PreprocessRequest(data, data, settings()))
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="is a file"):
        run(PreprocessRequest(data, tmp_path / "file", settings()))
    with pytest.raises(OutputError, match="cannot be written"):
        run(PreprocessRequest(data, tmp_path / "file" / "out", settings()))


def test_settings_that_do_not_fit_the_data(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"preprocess\.crop_size.* 3 positive numbers"):
        run(PreprocessRequest(data, tmp_path / "out", settings("preprocess.crop_size=[16,16]")))


def test_command_line(data: Path, tmp_path: Path) -> None:
    arguments = ["preprocess", "--data", str(data), "--out", str(tmp_path / "out"), "--json"]
    result = CliRunner().invoke(cli, [*arguments, "--set", "preprocess.spacing=keep"])
    assert result.exit_code == 0, result.output
    tree = json.loads(result.stdout)
    assert tree["cases"] == [f"case_{n}" for n in range(4)]
    assert tree["plan"]["spacing"] is None
    spoil_nan(data)
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 3
    assert "bad" in json.loads(result.stdout)["failed"]
    assert "NaN" in result.stderr
    result = CliRunner().invoke(cli, [*arguments, "--set", "preprocess.spacng=keep"])
    assert result.exit_code == 2
    assert "did you mean" in result.stderr


@pytest.mark.slow
def test_real_volumes(shared_data: Callable[[str], Path], tmp_path: Path) -> None:
    source = shared_data("Task04_Hippocampus")
    for folder in ("imagesTr", "labelsTr"):
        for path in sorted((source / folder).glob("*.nii.gz"))[:5]:
            (tmp_path / "data" / folder).mkdir(parents=True, exist_ok=True)
            shutil.copy(path, tmp_path / "data" / folder)
    tree = json.loads((source / "dataset.json").read_text())
    tree["training"], tree["test"] = tree["training"][:5], []
    (tmp_path / "data" / "dataset.json").write_text(json.dumps(tree))
    store = run(PreprocessRequest(tmp_path / "data", tmp_path / "out", load_settings(None)))
    assert store.labels.names == ("Anterior", "Posterior")
    assert all(min(case.foreground.values()) > 500 for case in store.cases)
    assert store.plan.spacing == (1, 1, 1)
