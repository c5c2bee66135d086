"""One set of rules for labels: what one stage refuses, no other counts; thin labels are named."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from medseg_nca.cases.evaluation_inputs import open_source
from medseg_nca.config import LabelTable, PreprocessPlan, RunSettings
from medseg_nca.config.loading import load_settings
from medseg_nca.config.model import CellSettings, LevelSettings, NcaModelSettings
from medseg_nca.config.training import EvaluationSettings
from medseg_nca.datasets.prepared import PreparedStore, write_store
from medseg_nca.datasets.rules import label_map_problem, thin_labels
from medseg_nca.errors import DataError, MedsegError, PartialFailure
from medseg_nca.inference.bundle import LoadedModel, ModelSpec, load_bundle, save_bundle
from medseg_nca.io.dicom.annotations.legend import FoundSegment, Legend
from medseg_nca.models import build_model
from medseg_nca.pipelines import check, preprocess, train
from medseg_nca.tasks.segmentation import evaluation

SIZE = (32, 32)


NAMES = ("c0", "c1", "c2", "c3", "c4", "c5")
TINY = (
    "training.iterations=1", "training.max_minutes=null", "training.validate_every=1",
    "training.checkpoint_every=1", "training.warmup=0", "tracking.enabled=false",
    "training.batch_size=1", "preprocess.crop_size=[16,16]",
    "model.levels=[{scale: 1, steps: 2, patch: 8}]",
)  # fmt: skip


def settings(*more: str) -> RunSettings:
    return load_settings("demo", [*TINY, *more])


def pictures(
    root: Path, numbers: Mapping[str, list[int]], names: str = "", sides: Any = None
) -> Path:
    """Grey noise, and label maps with a block of each number; a datalist where sides are given."""
    for part in ("images", "labels"):
        (root / part).mkdir(parents=True, exist_ok=True)
    for seed, (name, values) in enumerate(numbers.items()):
        noise = np.random.default_rng(seed).integers(0, 256, SIZE).astype(np.uint8)
        Image.fromarray(noise).save(root / "images" / f"{name}.png")
        mask = np.zeros(SIZE, np.uint8)
        for place, value in enumerate(values):
            mask[4 + 8 * place : 10 + 8 * place, 4 : 12 + seed] = value
        Image.fromarray(mask).save(root / "labels" / f"{name}.png")
    if names:
        (root / "dataset.yaml").write_text(f"labels: {names}\n")
    if sides is not None:
        rows = [f"images/{n}.png,labels/{n}.png,{sides[n]}" for n in numbers]
        (root / "datalist.csv").write_text("\n".join(["image,label,split", *rows]))
    return root


def model(folder: Path, values: Mapping[str, int]) -> LoadedModel:
    labels = LabelTable.model_validate(
        {"labels": [{"name": name, "values": [value]} for name, value in values.items()]}
    )
    tiny = NcaModelSettings(
        name="backbone_nca", dims=2, in_channels=1, out_channels=labels.channels,
        cell=CellSettings(channels=6), levels=(LevelSettings(steps=1),),
    )  # fmt: skip
    plan = PreprocessPlan(dims=2, channels=("image",), crop_size=(8, 8))
    spec = ModelSpec(name="tiny", model=tiny, labels=labels, plan=plan)
    save_bundle(folder, build_model(tiny), spec)
    return load_bundle(folder, "cpu")


def to_jpeg(folder: Path, case: str) -> None:
    path = folder / "labels" / f"{case}.png"
    mask = Image.open(path).copy()
    mask.save(path, "JPEG", quality=90)


def to_jpeg_in_tiff(folder: Path, case: str) -> None:
    path = folder / "labels" / f"{case}.png"
    tifffile.imwrite(path.with_suffix(".tif"), np.asarray(Image.open(path)), compression="jpeg")
    path.unlink()


def to_fractions(folder: Path, case: str) -> None:
    path = folder / "labels" / f"{case}.png"
    tifffile.imwrite(path.with_suffix(".tif"), np.asarray(Image.open(path)) / np.float32(2))
    path.unlink()


def to_negative(folder: Path, case: str) -> None:
    path = folder / "labels" / f"{case}.png"
    tifffile.imwrite(path.with_suffix(".tif"), np.asarray(Image.open(path)).astype(np.int16) - 1)
    path.unlink()


def to_other_number(folder: Path, case: str) -> None:
    path = folder / "labels" / f"{case}.png"
    Image.fromarray(np.asarray(Image.open(path)) * 9).save(path)


def to_numbers_of_objects(folder: Path, case: str) -> None:
    mask = np.arange(SIZE[0] * SIZE[1]).reshape(SIZE) % 100
    Image.fromarray(mask.astype(np.uint8)).save(folder / "labels" / f"{case}.png")


FAULTS = [
    to_jpeg, to_jpeg_in_tiff, to_fractions, to_negative, to_other_number, to_numbers_of_objects,
]  # fmt: skip


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("fault", FAULTS)
def test_what_one_stage_refuses_no_other_counts(tmp_path: Path, fault: Any, named: bool) -> None:
    names = "{one: 1, two: 2}" if named else ""
    data = pictures(tmp_path / "data", {key: [1, 2] for key in NAMES}, names)
    fault(data, "c2")
    report = check.run(data)
    refused = {finding.case for finding in report.errors}
    if fault is to_other_number and not named:
        assert not refused  # 9 and 18 are numbers like others, as long as nobody names them
    else:
        assert "c2" in refused
    learned = model(tmp_path / "model", {"one": 1, "two": 2})
    found = evaluation.run(
        evaluation.EvaluateSegmentation(
            learned,
            data,
            tmp_path / "out",
            settings=EvaluationSettings(bootstrap=20),
            split="all",
            figures=False,
        )
    )
    assert set(found.failed) == {"c2"}
    if named or fault in (to_jpeg, to_jpeg_in_tiff, to_fractions):
        with pytest.raises(PartialFailure) as caught:
            preprocess.run(
                preprocess.PreprocessRequest(data, tmp_path / "prepared", settings(), workers=0)
            )
        assert set(caught.value.failures) == {"c2"}
    elif fault is not to_other_number:
        with pytest.raises(DataError, match="does not name its labels"):
            preprocess.run(
                preprocess.PreprocessRequest(data, tmp_path / "prepared", settings(), workers=0)
            )


def test_a_truth_without_names_in_other_numbers_is_not_counted_as_empty(tmp_path: Path) -> None:
    data = pictures(tmp_path / "data", {key: [255] for key in NAMES})
    learned = model(tmp_path / "model", {"one": 1})
    with pytest.raises(DataError, match="all 6 cases failed"):
        evaluation.run(
            evaluation.EvaluateSegmentation(
                learned, data, tmp_path / "out", split="all", figures=False
            )
        )
    named = LabelTable.model_validate({"labels": [{"name": "one", "values": [255]}]})
    found = evaluation.run(
        evaluation.EvaluateSegmentation(
            learned,
            data,
            tmp_path / "out",
            split="all",
            labels=named,
            settings=EvaluationSettings(bootstrap=20),
            figures=False,
        )
    )
    assert not found.failed


def test_a_label_map_that_changed_since_is_not_validated_on(tmp_path: Path) -> None:
    data = pictures(tmp_path / "data", {key: [1, 2] for key in NAMES}, "{one: 1, two: 2}")
    preprocess.run(preprocess.PreprocessRequest(data, tmp_path / "prepared", settings(), workers=0))
    for case in NAMES:
        to_other_number(data, case)
    with pytest.raises(MedsegError, match="has label values outside the table: 9"):
        train.run(tmp_path / "prepared", tmp_path / "run", settings())


@pytest.mark.parametrize(
    ("counts", "known", "code"),
    [
        ({0: 9, 1: 3}, None, None),
        ({0: 9, 1: 3}, frozenset({0, 1}), None),
        ({0: 9, 2: 3}, frozenset({0, 1}), "unknown_label_value"),
        ({0: 9, -1: 3}, None, "unknown_label_value"),
        (dict.fromkeys(range(65), 1), None, None),
        (dict.fromkeys(range(66), 1), None, "not_a_label_map"),
        (dict.fromkeys(range(200), 1), frozenset(range(200)), None),
        (dict.fromkeys(range(300), 1), frozenset({0, 1}), "not_a_label_map"),
    ],
)
def test_the_rule_for_one_label_map(
    counts: dict[int, int], known: frozenset[int] | None, code: str | None
) -> None:
    problem = label_map_problem(counts, known)
    assert (problem.code if problem else None) == code


THREE = "{one: 1, two: 2, three: 3}"
SIDES = {"c0": "train", "c1": "train", "c2": "train", "c3": "val", "c4": "val", "c5": "test"}


@pytest.mark.parametrize(
    ("places", "text"),
    [
        (("c5",), "is in no training case, only in cases that are held out (test: c5)"),
        (("c3", "c5"), "only in cases that are held out (val: c3 and test: c5)"),
        ((), "is in no training case, in no case at all"),
        (("c0", "c3"), "is in one training case only (c0)"),
        (("c0", "c1", "c5"), "is in no validation case"),
        (("c0", "c1", "c3"), None),
    ],
)
def test_a_label_that_cannot_be_learned_is_named_in_every_stage(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, places: tuple[str, ...], text: str | None
) -> None:
    numbers = {name: [1, 2, 3] if name in places else [1, 2] for name in NAMES}
    data = pictures(tmp_path / "data", numbers, sides=SIDES)
    table = (
        "data.labels={labels: [{name: one, values: [1]}, {name: two, values: [2]}, "
        "{name: three, values: [3]}]}"
    )
    labels = settings(table).data.labels
    report = check.run(data, labels=labels)
    found = [f.message for f in report.warnings if f.code in ("thin_label", "unused_label")]
    preprocess.run(
        preprocess.PreprocessRequest(data, tmp_path / "prepared", settings(table), workers=0)
    )
    told = [r.getMessage() for r in caplog.records if "'three' is in" in r.getMessage()]
    caplog.clear()
    train.run(tmp_path / "prepared", tmp_path / "run", settings(table))
    trained = [r.getMessage() for r in caplog.records if "'three' is in" in r.getMessage()]
    log = (tmp_path / "run" / "train.log").read_text() if (tmp_path / "run").is_dir() else ""
    if text is None:
        assert not found
        assert not told
        assert not trained
        return
    assert len(found) == len(told) == len(trained) == 1
    assert "three" in found[0]
    assert text in told[0]
    assert text in trained[0]
    assert text in log
    if places:
        assert text in found[0]


def test_each_fold_has_labels_of_its_own(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    numbers = {name: [1, 2] if name == "c4" else [1] for name in NAMES}
    data = pictures(tmp_path / "data", numbers, "{one: 1, two: 2}")
    folds = settings("data.split.test=0")
    store = preprocess.run(
        preprocess.PreprocessRequest(data, tmp_path / "prepared", folds, workers=0)
    )
    caplog.clear()
    train.run_folds(tmp_path / "prepared", tmp_path / "run", folds, 2)
    told = [r.getMessage() for r in caplog.records if "'two' is in" in r.getMessage()]
    assert len(told) == 2
    assert [text[:12] for text in told] == ["Fold 0 of 2:", "Fold 1 of 2:"]
    assert sum("is in no training case" in text for text in told) == 1
    assert isinstance(store, PreparedStore)


def test_labels_of_which_there_is_enough_are_not_named() -> None:
    present = {"a": ["x"], "b": ["x"], "c": ["x"]}
    assert not list(thin_labels(["x"], present, {"train": ["a", "b"], "val": ["c"], "test": []}))
    assert not list(thin_labels(["x"], present, {"train": ["a"], "val": [], "test": []}))


def test_a_picture_that_is_shown_turned_is_told(tmp_path: Path) -> None:
    data = pictures(tmp_path / "data", {key: [1, 2] for key in NAMES}, "{one: 1, two: 2}")
    exif = Image.Exif()
    exif[0x0112] = 3
    for case in ("c0", "c1"):
        picture = Image.open(data / "images" / f"{case}.png").copy()
        picture.save(data / "images" / f"{case}.png", exif=exif)
    mask = Image.open(data / "labels" / "c1.png").copy()
    mask.save(data / "labels" / "c1.png", exif=exif)
    report = check.run(data)
    turned = [finding.case for finding in report.warnings if finding.code == "orientation_differs"]
    assert turned == ["c0"]
    assert not report.errors


@pytest.mark.parametrize("kind", ["imagej", "ome"])
def test_the_size_of_a_pixel_that_is_not_used_is_told(tmp_path: Path, kind: str) -> None:
    data = pictures(tmp_path / "data", {key: [1] for key in NAMES}, "{one: 1}")
    for case in NAMES:
        path = data / "images" / f"{case}.png"
        array = np.asarray(Image.open(path))
        about: dict[str, Any] = (
            {"imagej": True, "resolution": (2, 2), "metadata": {"unit": "um"}}
            if kind == "imagej"
            else {"ome": True, "metadata": {"PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}}
        )
        tifffile.imwrite(path.with_suffix(".tif"), array, photometric="minisblack", **about)
        path.unlink()
    report = check.run(data)
    told = [finding for finding in report.warnings if finding.code == "pixel_size_not_used"]
    assert [finding.case for finding in told] == list(NAMES)
    assert "says that a pixel is 0.5 x 0.5" in told[0].message


def test_numbers_of_a_mask_that_was_once_lossy_are_doubted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = pictures(tmp_path / "data", {key: [255] for key in NAMES})
    for case in NAMES:
        path = data / "labels" / f"{case}.png"
        mask = np.array(Image.open(path))
        mask[0, :20] = np.arange(20)  # what JPEG leaves around an edge
        Image.fromarray(mask).save(path)
    report = check.run(data)
    assert "doubtful_labels" in {finding.code for finding in report.warnings}
    preprocess.run(preprocess.PreprocessRequest(data, tmp_path / "prepared", settings(), workers=0))
    assert "hold 20 numbers without names: 1, 2, 3" in caplog.text


def test_a_prepared_dicom_label_keeps_its_numbers_in_an_evaluation(tmp_path: Path) -> None:
    names = LabelTable.model_validate({"labels": [{"name": "one", "values": [1]}]})
    legend = Legend(table=names, segments=(FoundSegment(value=1, name="one"),))
    data = pictures(tmp_path / "data", {key: [1] for key in NAMES}, "{one: 1}")
    store = preprocess.run(
        preprocess.PreprocessRequest(data, tmp_path / "prepared", settings(), workers=0)
    )
    cases = tuple(case.model_copy(update={"segments": legend}) for case in store.cases)
    write_store(store.folder, store.index.model_copy(update={"cases": cases}), store.plan)
    assert [case.segments for case in open_source(store.folder).cases] == [legend] * len(cases)
