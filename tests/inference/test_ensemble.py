"""Ensembles: members that fit, their mean, their spread, files that are refused."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from medseg_nca.config import Label, LabelTable, PreprocessPlan
from medseg_nca.config.plan import TrainingImages
from medseg_nca.config.training import PredictionSettings
from medseg_nca.errors import MemoryBudgetError, ModelError
from medseg_nca.inference.bundle import (
    SPEC,
    WEIGHTS,
    LoadedModel,
    ModelSpec,
    check_bundle,
    load_bundle,
    save_bundle,
    save_ensemble,
)
from medseg_nca.inference.ensemble import join_specs
from medseg_nca.inference.memory import footprint
from medseg_nca.inference.predictor import Predictor
from medseg_nca.io.peek import Extent
from medseg_nca.io.volume import Volume
from medseg_nca.job import Job
from medseg_nca.models import create_model
from tests.tracking.tiny import save_tiny

SHAPE = (14, 13, 12)


def volume() -> Volume:
    array = np.random.default_rng(0).normal(size=(1, *SHAPE)).astype(np.float32)
    return Volume(array, np.diag([1.5, 1.5, 1.5, 1.0]))


def tiny(folder: Path, seed: int, **changes: Any) -> LoadedModel:
    """One of the members; they differ in their weights only."""
    spec = save_tiny(folder, seed=seed)
    loaded = load_bundle(folder, "cpu")
    save_bundle(folder, loaded.model, spec.model_copy(update=changes))
    return load_bundle(folder, "cpu")


def members(folder: Path, count: int = 3) -> dict[str, LoadedModel]:
    return {f"run_{n}": tiny(folder / f"run_{n}", n, name=f"x_fold{n}") for n in range(count)}


def joined(folder: Path, models: dict[str, LoadedModel]) -> LoadedModel:
    save_ensemble(folder, [model.model for model in models.values()], join_specs(models))
    return load_bundle(folder, "cpu")


def probabilities(model: LoadedModel, **changes: Any) -> np.ndarray:
    settings = PredictionSettings(probabilities=True, **changes)
    found = Predictor(model, settings).predict(volume()).probabilities
    assert found is not None
    return found.array


def test_its_probabilities_are_the_mean_of_its_members(tmp_path: Path) -> None:
    models = members(tmp_path)
    ensemble = joined(tmp_path / "ensemble", models)
    assert len(ensemble.members) == 3
    assert ensemble.parameters == 3 * models["run_0"].parameters
    each = [probabilities(model) for model in models.values()]
    found = probabilities(ensemble)
    np.testing.assert_allclose(found, np.mean(each, 0), atol=1e-6)
    label_map = Predictor(ensemble).predict(volume()).label_map.array[0]
    np.testing.assert_array_equal(label_map, found.argmax(0))
    flipped = [probabilities(model, flips=(0, 2)) for model in models.values()]
    np.testing.assert_allclose(
        probabilities(ensemble, flips=(0, 2)), np.mean(flipped, 0), atol=1e-6
    )


def test_what_is_known_of_its_members_is_kept(tmp_path: Path) -> None:
    models = members(tmp_path)
    spec = joined(tmp_path / "ensemble", models).spec
    assert (spec.format_version, spec.name) == (2, "x")
    assert [member.name for member in spec.members] == ["x_fold0", "x_fold1", "x_fold2"]
    digests = [model.spec.weights_sha256 for model in models.values()]
    assert [member.weights_sha256 for member in spec.members] == digests
    assert spec.training_data_hash == "d" * 64
    assert spec.metrics == {"mean_dice": 0.5}
    single = json.loads((tmp_path / "run_0" / SPEC).read_text())
    assert single["format_version"] == 1
    assert "members" not in single


def test_the_spread_is_that_of_the_members(tmp_path: Path) -> None:
    """Each takes part as often: four passes of three members are six."""
    models = members(tmp_path)
    ensemble = joined(tmp_path / "ensemble", models)
    seen: list[tuple[int, int]] = []
    prediction = Predictor(ensemble, PredictionSettings(uncertainty=4)).predict(
        volume(), Job(lambda told: seen.append((told.done, told.total or 0)))
    )
    foreground = [
        1 - probabilities(list(models.values())[number % 3], seed=number, fire="sample")[0]
        for number in range(6)
    ]
    assert prediction.uncertainty is not None
    np.testing.assert_allclose(prediction.uncertainty.array[0], np.std(foreground, 0), atol=1e-5)
    assert seen[-1][0] == seen[-1][1]
    assert [done / total for done, total in seen] == sorted(done / total for done, total in seen)


def test_networks_without_a_fire_mask_differ_from_member_to_member(tmp_path: Path) -> None:
    labels = LabelTable(labels=(Label(name="a", values=(1,)), Label(name="b", values=(2,))))
    plan = PreprocessPlan(dims=3, channels=("MR",), crop_size=(8, 8, 8), orientation=None)
    params = {"channels": [4, 8], "strides": [2], "num_res_units": 0}
    models: dict[str, LoadedModel] = {}
    for number in range(2):
        torch.manual_seed(number)
        model = create_model("unet", dims=3, in_channels=1, out_channels=3, params=params)
        settings: Any = model.settings
        spec = ModelSpec(name="unet", model=settings, labels=labels, plan=plan)
        save_bundle(tmp_path / str(number), model, spec)
        models[str(number)] = load_bundle(tmp_path / str(number), "cpu")
    ensemble = joined(tmp_path / "ensemble", models)
    prediction = Predictor(ensemble, PredictionSettings(uncertainty=9)).predict(volume())
    foreground = [1 - probabilities(model)[0] for model in models.values()]
    assert prediction.uncertainty is not None
    np.testing.assert_allclose(prediction.uncertainty.array[0], np.std(foreground, 0), atol=1e-5)


def test_the_memory_of_its_votes_counts(tmp_path: Path) -> None:
    models = members(tmp_path, 2)
    ensemble = joined(tmp_path / "ensemble", models)
    extent = Extent(1, (100, 100, 100), 4, np.diag([1.5, 1.5, 1.5, 1.0]))
    one, all_of_them = (
        footprint(model, model.spec.prediction, extent) for model in (models["run_0"], ensemble)
    )
    # Probabilities of three channels, where a single model keeps a label of one byte.
    assert all_of_them.held - one.held == (3 * 4 - 1) * 10**6
    small = ensemble.spec.prediction.model_copy(update={"memory_budget_gb": 0.12})
    with pytest.raises(MemoryBudgetError, match="needs at least"):
        Predictor(ensemble, small).check_memory(extent, "it")


def test_largest_parts_are_kept_where_all_members_found_it_right(tmp_path: Path) -> None:
    models = members(tmp_path)
    decided = (("merged", "anterior"), ("anterior", "merged"), ("anterior",))
    for where, largest in zip(models, decided, strict=True):
        model = models[where]
        prediction = model.spec.prediction.model_copy(update={"largest": largest})
        models[where] = replace(
            model, spec=model.spec.model_copy(update={"prediction": prediction})
        )
    assert join_specs(models).prediction.largest == ("anterior",)


def other(model: LoadedModel, part: str, **changes: Any) -> LoadedModel:
    value = getattr(model.spec, part).model_copy(update=changes)
    return replace(model, spec=model.spec.model_copy(update={part: value}))


def test_members_that_do_not_fit_are_named_with_the_field(tmp_path: Path) -> None:
    models = members(tmp_path)
    last = models["run_2"]
    level = last.spec.model.levels[0]  # type: ignore[union-attr]
    wrong = {
        r"plan\.spacing\.0 is 2\.0, that of run_0 is 1\.5": other(last, "plan", spacing=(2.0,) * 3),
        r"model\.levels\.0\.steps is 5, that of run_0 is 4": other(
            last, "model", levels=(level.model_copy(update={"steps": 5}),)
        ),
        r"prediction\.fire is 'mean', that of run_0 is None": other(
            last, "prediction", fire="mean"
        ),
        r"labels\.labels\.1\.name is 'x', that of run_0 is 'post'": other(
            last, "labels",
            labels=(last.spec.labels.labels[0], Label(name="x", values=(2,))),
        ),
    }  # fmt: skip
    for words, model in wrong.items():
        with pytest.raises(ModelError, match=f"run_2: does not fit .* its {words}"):
            join_specs({**models, "run_2": model})
    free = other(other(last, "model", engine="reference"), "prediction", memory_budget_gb=1.0)
    assert len(join_specs({**models, "run_2": free}).members) == 3


def test_it_learned_from_the_images_of_all_members(tmp_path: Path) -> None:
    """Each fold trains on other cases, so that their intensities have other ranges."""
    models = members(tmp_path)
    one = (1.0, 1.0, 1.0)
    for high, where in enumerate(list(models), start=5):
        channel = {
            "low": (0, 1), "median": (2, 3), "high": (4, high), "place": (0, 1), "border": (0, 1),
            "floor": (0, 1), "rough": (0, 1), "grades": 10 * high, "whole": True,
        }  # fmt: skip
        training = TrainingImages.model_validate({
            "spacing": one, "finest": one, "coarsest": one, "smallest": one, "largest": one,
            "intensities": [channel],
        })  # fmt: skip
        models[where] = other(models[where], "plan", training=training)
    known = join_specs(models).plan.training
    assert known is not None
    assert known.intensities is not None
    assert (known.intensities[0].high, known.intensities[0].grades) == ((4, 7), 50)
    older = known.changed(intensities=None)
    mixed = join_specs({**models, "run_1": other(models["run_1"], "plan", training=older)})
    assert mixed.plan.training == older


def test_what_is_no_ensemble_is_refused(tmp_path: Path) -> None:
    models = members(tmp_path, 2)
    with pytest.raises(ModelError, match="2 to 64 members, and there are 1"):
        join_specs({"a": models["run_0"]})
    with pytest.raises(ModelError, match="b: has the same weights as a"):
        join_specs({"a": models["run_0"], "b": models["run_0"]})
    ensemble = joined(tmp_path / "ensemble", models)
    with pytest.raises(ModelError, match="b: is an ensemble already"):
        join_specs({"a": models["run_0"], "b": ensemble})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format_version": 1}, "members are 2, but format_version is 1"),
        ({"members": []}, "members are 0, but format_version is 2"),
        ({"format_version": 3}, "format_version is '3'; this package reads 1, and 2 for an"),
        ({"members": 1}, "members are 1, but format_version is 2"),
        ({"members": 3}, "members are 3, but weights.safetensors holds no member_2"),
        ({"members": 65}, "members: .* at most 64"),
        ({"model": {"head": "mlp"}}, r"model\.head.*does not fit.*\(tensors of member_0\)"),
        ({"weights_sha256": "0" * 64}, "has sha256"),
    ],
)
def test_a_changed_file_is_refused(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    joined(tmp_path, members(tmp_path, 2))
    tree = json.loads((tmp_path / SPEC).read_text())
    count = change.get("members")
    if isinstance(count, int):
        change = {"members": [tree["members"][0]] * count}
    if "model" in change:
        change = {"model": {**tree["model"], **change["model"]}}
    (tmp_path / SPEC).write_text(json.dumps({**tree, **change}))
    with pytest.raises(ModelError, match=words):
        check_bundle(tmp_path)


def test_weights_that_belong_to_no_member_are_refused(tmp_path: Path) -> None:
    joined(tmp_path, members(tmp_path, 2))
    tree = json.loads((tmp_path / SPEC).read_text())
    (tmp_path / SPEC).write_text(json.dumps({**tree, "weights_sha256": ""}))
    good = load_file(tmp_path / WEIGHTS)
    name = next(iter(good))
    tensors = {
        "holds member_2": {**good, "member_2.x": torch.zeros(1)},
        "holds member_01": {**good, "member_01.x": torch.zeros(1)},
        "holds stranger": {**good, "stranger": torch.zeros(1)},
        rf"does not hold it.*{name.partition('.')[0]}": {
            key: value for key, value in good.items() if key != name
        },
        "make none": {**good, "member_1.x": torch.zeros(1)},
    }
    for words, content in tensors.items():
        save_file(content, tmp_path / WEIGHTS)
        with pytest.raises(ModelError, match=words):
            load_bundle(tmp_path, "cpu")
    save_file({re.sub("member_0", "member_9", k): v for k, v in good.items()}, tmp_path / WEIGHTS)
    with pytest.raises(ModelError, match="holds member_9"):
        load_bundle(tmp_path, "cpu")
