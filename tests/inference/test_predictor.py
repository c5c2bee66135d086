"""The bundle and the predictor: grids, tiles, flips, uncertainty, damaged files."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch

from medseg_nca.config import Label, LabelTable, PreprocessPlan
from medseg_nca.config.training import PredictionSettings
from medseg_nca.errors import ConfigError, ImageError, ModelError
from medseg_nca.inference.accepted import compare_with_training
from medseg_nca.inference.bundle import LoadedModel, ModelSpec, load_bundle, save_bundle
from medseg_nca.inference.predictor import Predictor, stream_padded
from medseg_nca.inference.votes import MeanVotes
from medseg_nca.io.dicom.records import Source, Stack
from medseg_nca.io.volume import Volume
from medseg_nca.job import Job, Progress
from medseg_nca.models import RunOptions, create_model
from medseg_nca.models.multilevel import MultiLevelNca
from medseg_nca.nca.engines import get_engine
from medseg_nca.transforms.islands import share_apart
from medseg_nca.transforms.prepare import prepare

LABELS = LabelTable(labels=(Label(name="a", values=(3,)), Label(name="b", values=(7,))))


def bundle_of(folder: Path, dims: int = 3, **plan: Any) -> LoadedModel:
    """A small automaton with random weights that marks something in most images."""
    torch.manual_seed(3)
    levels = [{"scale": 2, "steps": 3}, {"scale": 1, "steps": 3}]
    model = create_model(
        "pyramid_nca", dims=dims, in_channels=1, out_channels=3, levels=levels, head="linear"
    )
    assert isinstance(model, MultiLevelNca)
    for cell in model.cells:
        torch.nn.init.normal_(cell.update.output.weight, std=0.5)
    defaults: dict[str, Any] = {
        "dims": dims, "channels": ("MR",), "crop_size": (8,) * dims, "orientation": None,
    }  # fmt: skip
    spec = ModelSpec(
        name="test",
        model=model.settings,
        labels=LABELS,
        plan=PreprocessPlan(**{**defaults, **plan}),
    )
    save_bundle(folder, model, spec)
    return load_bundle(folder, "cpu")


def volume_of(*shape: int, affine: np.ndarray | None = None) -> Volume:
    array = np.random.default_rng(0).normal(size=(1, *shape)).astype(np.float32)
    return Volume(array, np.diag([1.0, 1.0, 2.0, 1.0]) if affine is None else affine)


def test_the_label_map_lies_on_the_grid_of_the_image(tmp_path: Path) -> None:
    volume = volume_of(11, 14, 9)
    prediction = Predictor(bundle_of(tmp_path)).predict(volume)
    assert prediction.label_map.array.shape == (1, 11, 14, 9)
    assert np.array_equal(prediction.label_map.affine, volume.affine)
    assert set(np.unique(prediction.label_map.array)) <= {0, 3, 7}
    assert len(np.unique(prediction.label_map.array)) > 1
    assert prediction.probabilities is None
    assert prediction.uncertainty is None


def test_another_grid_and_back(tmp_path: Path) -> None:
    """Reoriented and resampled for the model, the result comes back to an oblique source grid."""
    turned = nib.orientations.inv_ornt_aff(np.array([[1, -1], [0, 1], [2, -1]]), (12, 10, 8))
    affine = np.diag([1.0, 1.0, 2.0, 1.0]) @ turned
    volume = volume_of(12, 10, 8, affine=affine)
    loaded = bundle_of(tmp_path, orientation="RAS", spacing=(1.5, 1.5, 1.5))
    settings = PredictionSettings(probabilities=True)
    prediction = Predictor(loaded, settings).predict(volume)
    assert prediction.label_map.array.shape == volume.array.shape
    assert prediction.probabilities is not None
    total = prediction.probabilities.array.sum(0)
    assert total == pytest.approx(np.ones_like(total), abs=1e-4)


TRAINING = {
    "spacing": (1, 1, 1), "finest": (1, 1, 1), "coarsest": (1, 1, 1),
    "smallest": (10, 10, 10), "largest": (16, 16, 16), "orientations": ("RAS",),
}  # fmt: skip


def test_an_image_of_another_spacing_is_seen_as_the_training_was(tmp_path: Path) -> None:
    """A plan that leaves the spacing: what the model sees is the image brought to 1 mm."""
    fine = volume_of(24, 24, 24, affine=np.diag([0.5, 0.5, 0.5, 1.0]))
    leaving = Predictor(bundle_of(tmp_path / "a", training=TRAINING))
    bringing = Predictor(bundle_of(tmp_path / "b", spacing=(1, 1, 1)))
    found = leaving.predict(fine)
    np.testing.assert_array_equal(found.label_map.array, bringing.predict(fine).label_map.array)
    assert found.label_map.array.shape == fine.array.shape
    assert found.likeness.brought == (
        "spacing 0.5 x 0.5 x 0.5 mm brought to 1 x 1 x 1 mm, as in the training"
    )
    kept = Predictor(leaving.loaded, PredictionSettings(match_spacing=False)).predict(fine)
    assert (kept.label_map.array != found.label_map.array).any()
    assert "is not brought to" in kept.likeness.unlike[0]


def test_an_image_unlike_the_training_can_be_refused(tmp_path: Path) -> None:
    predictor = Predictor(bundle_of(tmp_path, training=TRAINING))
    coarse = volume_of(6, 6, 6, affine=np.diag([2.0, 2.0, 2.0, 1.0]))
    assert "times as large" in predictor.predict(coarse).likeness.unlike[0]
    refusing = Predictor(predictor.loaded, PredictionSettings(unlike="refuse"))
    with pytest.raises(ImageError, match="is unlike the images of the training: its voxels"):
        refusing.predict(coarse)


INTENSITIES = {
    "low": (-3, -2), "median": (-0.1, 0.1), "high": (2, 3), "place": (0.4, 0.6),
    "border": (0.4, 0.6), "floor": (0, 0.1), "rough": (0.02, 1), "grades": 200, "whole": False,
}  # fmt: skip


def test_an_image_of_other_intensities_is_told_or_refused(tmp_path: Path) -> None:
    known = {**TRAINING, "intensities": [INTENSITIES]}
    predictor = Predictor(bundle_of(tmp_path, training=known))
    image = volume_of(12, 12, 12, affine=np.eye(4))
    assert predictor.predict(image).likeness.unlike == ()
    mask = image.with_array(np.uint8(image.array > 0))
    (text,) = predictor.predict(mask).likeness.unlike
    assert text.startswith("it has only 2 different intensities")
    refusing = Predictor(predictor.loaded, PredictionSettings(unlike="refuse"))
    refusing.predict(image)
    with pytest.raises(ImageError, match="of the training: it has only 2 different intensities"):
        refusing.predict(mask)


def series(modality: str) -> Volume:
    """An image as a DICOM series of a modality gives it."""
    source = Source(Stack("", (), (), np.eye(4)), "1", "2", None, modality)
    return replace(volume_of(12, 12, 8), header={"dicom": source})


@pytest.mark.parametrize(
    ("plan", "dicom", "told"),
    [
        ("MRI", "MR", ()), ("mr", "MR", ()), ("PET", "PT", ()), ("X-ray", "DX", ()),
        ("CT", "MR", ("its modality is MRI, that of the training CT",)),
        ("MRI", "CT", ("its modality is CT, that of the training MRI",)),
        ("unknown", "CT", ()), ("MRI", "OT", ()), ("MRI", "", ()),
    ],
)  # fmt: skip
def test_another_modality_is_told(plan: str, dicom: str, told: tuple[str, ...]) -> None:
    model = PreprocessPlan(dims=3, channels=("x",), crop_size=(8, 8, 8), modality=plan)
    found = compare_with_training(series(dicom), model, PredictionSettings())
    assert found.unlike == told
    assert compare_with_training(volume_of(8, 8, 8), model, PredictionSettings()).unlike == ()


def test_a_model_that_says_nothing_of_its_training_cannot_refuse_by_it(tmp_path: Path) -> None:
    predictor = Predictor(bundle_of(tmp_path), PredictionSettings(unlike="refuse"))
    with pytest.raises(ImageError, match="the model does not say what the images"):
        predictor.predict(volume_of(6, 6, 6))


@pytest.mark.parametrize("keeps_budget", [True, False])
def test_a_spacing_out_of_all_proportion_is_refused_by_name(
    tmp_path: Path, keeps_budget: bool
) -> None:
    predictor = Predictor(bundle_of(tmp_path, training=TRAINING), keeps_budget=keeps_budget)
    huge = replace(
        volume_of(6, 6, 6, affine=np.diag([1e3, 1e3, 1e3, 1.0])), sources=(Path("huge.nii"),)
    )
    with pytest.raises(ImageError, match=r"huge\.nii: the spacing 1000 x 1000 x 1000 mm brought"):
        predictor.predict(huge)


def test_labels_that_touch_on_a_coarse_grid_touch_on_the_fine_one(tmp_path: Path) -> None:
    """Sure of three labels that meet in a line: interpolated, none of them has half there."""
    labels = LabelTable(labels=tuple(Label(name=n, values=(k,)) for k, n in enumerate("abc", 1)))
    volume = volume_of(12, 12, 12, affine=np.eye(4))
    coarse = PreprocessPlan(
        dims=3, channels=("MR",), crop_size=(8,) * 3, orientation=None, spacing=(1.7,) * 3
    )
    trace = prepare(volume, coarse).trace
    x, y, _ = np.meshgrid(*(np.arange(n) for n in trace.prepared.shape), indexing="ij")
    sectors = np.where(x < 4, 1, np.where(y < 3, 2, 3))
    votes = MeanVotes(trace.prepared.shape, labels)
    one_hot = np.moveaxis(np.eye(4, dtype=np.float32)[sectors], -1, 0).copy()
    votes.add((slice(None),) * 3, torch.from_numpy(one_hot))
    votes.end_pass()
    assert set(np.unique(votes.label_map(trace))) == {1, 2, 3}


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    loaded, volume = bundle_of(tmp_path), volume_of(9, 10, 8)
    settings = PredictionSettings(probabilities=True, fire="sample")
    one, two = (Predictor(loaded, settings).predict(volume).probabilities for _ in range(2))
    other = Predictor(loaded, settings.model_copy(update={"seed": 1})).predict(volume).probabilities
    assert one is not None
    assert two is not None
    assert other is not None
    assert np.array_equal(one.array, two.array)
    assert not np.array_equal(one.array, other.array)


@pytest.mark.parametrize("engine", ["cpu", "reference"])
def test_tiles_change_nothing(tmp_path: Path, engine: str) -> None:
    loaded, volume = bundle_of(tmp_path), volume_of(40, 36, 34)
    assert isinstance(loaded.model, MultiLevelNca)
    loaded.model.engine = get_engine(engine)
    results: list[np.ndarray] = []
    told: list[int] = []

    def listen(progress: Progress) -> None:
        told[-1] += 1

    for budget in (4.0, 0.004):
        told.append(0)
        settings = PredictionSettings(probabilities=True, memory_budget_gb=budget)
        predictor = Predictor(loaded, settings, keeps_budget=False)
        probabilities = predictor.predict(volume, Job(listen)).probabilities
        assert probabilities is not None
        results.append(probabilities.array)
    assert told[1] > told[0]  # who listens hears of every tile
    np.testing.assert_allclose(results[1], results[0], atol=1e-5)


def test_flips_are_averaged(tmp_path: Path) -> None:
    loaded, volume = bundle_of(tmp_path), volume_of(9, 10, 8)
    settings = PredictionSettings(probabilities=True, flips=(0,), fire="mean")
    predictor = Predictor(loaded, settings)
    straight = predictor.predict(volume).probabilities
    mirrored = predictor.predict(volume.with_array(volume.array[:, ::-1].copy())).probabilities
    assert straight is not None
    assert mirrored is not None
    np.testing.assert_allclose(mirrored.array[:, ::-1], straight.array, atol=1e-5)


def test_the_largest_part_is_kept_of_what_the_settings_name(tmp_path: Path) -> None:
    """The model says what "auto" is; the probabilities stay as they are."""
    loaded, volume = bundle_of(tmp_path), volume_of(12, 12, 8)

    def predicted(loaded: LoadedModel, **changes: Any) -> tuple[np.ndarray, np.ndarray]:
        settings = PredictionSettings(probabilities=True, **changes)
        found = Predictor(loaded, settings).predict(volume)
        assert found.probabilities is not None
        return found.label_map.array[0], found.probabilities.array

    whole, probabilities = predicted(loaded)
    assert share_apart(whole == 3) > 0
    kept, same = predicted(loaded, largest=("a",))
    assert share_apart(kept == 3) == 0
    np.testing.assert_array_equal(kept[kept == 3], whole[kept == 3])
    np.testing.assert_array_equal(kept == 7, whole == 7)
    np.testing.assert_array_equal(same, probabilities)
    decided = loaded.spec.prediction.model_copy(update={"largest": ("a",)})
    spec = loaded.spec.model_copy(update={"prediction": decided})
    save_bundle(tmp_path / "decided", loaded.model, spec)
    again = load_bundle(tmp_path / "decided", "cpu")
    np.testing.assert_array_equal(predicted(again)[0], kept)
    np.testing.assert_array_equal(predicted(again, largest=())[0], whole)
    only = Predictor(again).predict(volume).label_map.array[0]
    np.testing.assert_array_equal(only, kept)
    with pytest.raises(ConfigError, match=r"largest: Unknown label 'aa'.*Known: a, b, merged"):
        Predictor(loaded, PredictionSettings(largest=("aa",)))


def test_uncertainty_is_the_spread_of_the_passes(tmp_path: Path) -> None:
    loaded, volume = bundle_of(tmp_path), volume_of(9, 10, 8)
    predictor = Predictor(loaded, PredictionSettings(uncertainty=4, fire="mean"))
    uncertainty = predictor.predict(volume).uncertainty
    assert uncertainty is not None
    assert uncertainty.array.shape == volume.array.shape
    assert uncertainty.array.max() > 0.01
    foreground = []
    for seed in range(4):
        settings = PredictionSettings(seed=seed, probabilities=True, fire="sample")
        probabilities = Predictor(loaded, settings).predict(volume).probabilities
        assert probabilities is not None
        foreground.append(1 - probabilities.array[0])
    np.testing.assert_allclose(uncertainty.array[0], np.std(foreground, 0), atol=1e-5)


def test_settings_that_do_not_fit_the_model_are_refused(tmp_path: Path) -> None:
    loaded = bundle_of(tmp_path, dims=2)
    with pytest.raises(ConfigError, match="2 is no axis"):
        Predictor(loaded, PredictionSettings(flips=(2,)))
    network = create_model("unet", dims=2, in_channels=1, out_channels=3)
    spec = loaded.spec.model_copy(update={"model": network.settings})
    plain = LoadedModel(network.eval(), spec, tmp_path, torch.device("cpu"))
    with pytest.raises(ConfigError, match="no fire mask"):
        Predictor(plain, PredictionSettings(uncertainty=3))


def test_an_image_of_other_axes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"2 axes \(9, 10\); 3 are needed"):
        Predictor(bundle_of(tmp_path)).predict(volume_of(9, 10))


def test_a_small_image_is_padded_evenly_and_cut_back() -> None:
    class Echo:
        def stream(self, image: torch.Tensor, options: RunOptions, sink: Any) -> None:
            self.seen = image
            for row in range(image.shape[2]):
                sink((slice(row, row + 1), slice(0, 3)), image[:, :, row : row + 1])

    image = torch.arange(6.0).view(1, 1, 2, 3)
    echo: Any = Echo()
    back = torch.full_like(image, -1.0)
    stream_padded(echo, image, (5, 3), RunOptions(), lambda w, part: back[(..., *w)].copy_(part))
    assert torch.equal(back, image)
    assert echo.seen[0, 0, :, 0].tolist() == [0, 0, 3, 3, 3]


def test_a_2d_model(tmp_path: Path) -> None:
    prediction = Predictor(bundle_of(tmp_path, dims=2)).predict(volume_of(21, 17))
    assert prediction.label_map.array.shape == (1, 21, 17)


def test_damaged_bundles_are_named(tmp_path: Path) -> None:
    bundle_of(tmp_path / "good")
    good = {f.name: f.read_bytes() for f in (tmp_path / "good").iterdir()}
    spec = json.loads(good["model.json"])

    def with_spec(**changes: Any) -> dict[str, bytes]:
        return {**good, "model.json": json.dumps({**spec, **changes}).encode()}

    cases = {
        "cut": ({**good, "weights.safetensors": good["weights.safetensors"][:-9]}, "is truncated"),
        "no json": ({**good, "model.json": b"{"}, "not valid JSON"),
        "new": (with_spec(format_version=9), "format_version is '9'"),
        "key": (with_spec(extra=1), "extra"),
        "grid": (with_spec(plan={**spec["plan"], "spacing": [1, 1, 0]}), "numbers of mm"),
        "turn": (with_spec(plan={**spec["plan"], "orientation": "XYZ"}), "letters such as RAS|RAS"),
        "labels": (
            with_spec(labels={"labels": [{"name": "a", "values": [1]}]}),
            "out_channels is 3, but the labels need 2",
        ),
        "other": (with_spec(model={**spec["model"], "head": "mlp"}), "does not fit"),
        "none": ({}, "A model is a folder"),
    }
    for name, (files, message) in cases.items():
        folder = tmp_path / name
        folder.mkdir()
        for file, content in files.items():
            (folder / file).write_bytes(content)
        with pytest.raises(ModelError, match=message):
            load_bundle(folder, "cpu")


def test_a_device_that_is_not_there_is_named(tmp_path: Path) -> None:
    bundle_of(tmp_path)
    with pytest.raises(ModelError, match="Unknown device 'gpu'"):
        load_bundle(tmp_path, "gpu")
