"""The engine is an option of the run that uses a model, whatever the task."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from skimage.draw import disk

from medseg_nca.config.engines import ENGINES
from medseg_nca.config.model import GenericModelSettings
from medseg_nca.errors import ConfigError
from medseg_nca.inference.bundle import LoadedModel, load_bundle
from medseg_nca.inference.engine_choice import (
    check_engine,
    engine_settings,
    used_engine,
    with_engine,
)
from medseg_nca.inference.predictor import Predictor
from medseg_nca.io.volume import Volume
from medseg_nca.models import build_model
from medseg_nca.nca.engines import get_engine
from medseg_nca.tracking.resolve import load_model, load_segmentation
from medseg_nca.work.shared_model import SharedModel
from tests.inference.test_spec import saved


def nuclei(engine: str) -> LoadedModel:
    return load_segmentation("zoo:nuclei", "cpu", engine=engine)


def test_engines_give_the_same_label_map() -> None:
    image = np.random.default_rng(0).normal(20, 2, (96, 96)).astype(np.float32)
    for centre in ((30, 30), (70, 60)):
        image[disk(centre, 12)] += 120
    volume = Volume(image[None], np.eye(4))
    found = {}
    for name in ("auto", "cpu", "reference"):
        loaded = nuclei(name)
        settings = loaded.spec.prediction.changed(probabilities=True)
        found[name] = Predictor(loaded, settings).predict(volume)
    labels = {name: one.label_map.array for name, one in found.items()}
    assert labels["reference"].any()
    np.testing.assert_array_equal(labels["cpu"], labels["reference"])
    np.testing.assert_array_equal(labels["cpu"], labels["auto"])
    cpu, reference = (found[name].probabilities for name in ("cpu", "reference"))
    assert cpu is not None
    assert reference is not None
    np.testing.assert_allclose(cpu.array, reference.array, atol=1e-3)
    # Two ways to compute never round all voxels alike: the reference was not the compiled engine.
    assert (cpu.array != reference.array).any()


def test_the_model_says_who_computes_it() -> None:
    for name in ("auto", "cpu", "reference"):
        loaded = nuclei(name)
        assert loaded.engine == name
        assert [getattr(member, "engine", None) for member in loaded.members] == [get_engine(name)]
    assert load_segmentation("zoo:nuclei", "cpu").engine == "auto"
    # What the model is does not depend on it.
    assert nuclei("reference").spec == nuclei("auto").spec


@pytest.mark.parametrize("reference", ["zoo:nuclei", "models:/no_such_model/1"])
def test_an_unknown_engine_is_refused_by_name_before_any_work(reference: str) -> None:
    with pytest.raises(ConfigError, match="Unknown engine 'refrence'; did you mean 'reference'"):
        load_model(reference, "cpu", engine="refrence")


def test_names_are_known_without_torch() -> None:
    assert {"auto", "cpu", "reference"} <= set(ENGINES.names)
    with pytest.raises(ConfigError, match="Known: auto, cpu, reference"):
        ENGINES.check("warp")


def test_a_network_is_computed_by_no_engine() -> None:
    settings = GenericModelSettings(name="unet", dims=2, in_channels=1, out_channels=2)
    assert with_engine(settings, "auto") == settings
    with pytest.raises(ConfigError, match=r"'reference'.*'unet' is no automaton"):
        with_engine(settings, "reference")


def test_an_engine_that_cannot_compute_a_model_is_refused_when_it_is_loaded() -> None:
    model = nuclei("auto").model
    with pytest.raises(ConfigError, match="The engine 'cpu' does not serve device meta"):
        check_engine(model, "cpu", torch.device("meta"))
    check_engine(model, "reference", torch.device("meta"))


def test_results_say_which_engine_auto_took() -> None:
    assert engine_settings(nuclei("reference")) == {
        "engine": "reference", "engine_used": "reference",
    }  # fmt: skip
    for precision in ("float32", "bfloat16"):
        told = engine_settings(nuclei("auto"), precision)
        assert told == {"engine": "auto", "engine_used": "cpu"}
    settings = GenericModelSettings(name="unet", dims=2, in_channels=1, out_channels=2)
    assert used_engine(build_model(settings), "auto", torch.device("cpu")) is None
    # The engine cpu does not serve a state on this device.
    assert used_engine(nuclei("auto").model, "auto", torch.device("meta")) == "reference"


def test_other_processes_compute_with_the_same_engine(tmp_path: Path) -> None:
    shared = SharedModel(Predictor(nuclei("reference")), tmp_path)
    there: SharedModel = pickle.loads(pickle.dumps(shared))
    assert there.predictor.loaded.engine == "reference"
    assert getattr(there.predictor.model, "engine", None) is get_engine("reference")


def test_results_of_a_named_engine_are_its_own() -> None:
    keys = {name: SharedModel(Predictor(nuclei(name))).key for name in ("auto", "cpu", "reference")}
    assert len(set(keys.values())) == 3


def test_memory_and_precision_are_those_of_the_run_not_of_the_training(tmp_path: Path) -> None:
    folder = saved(tmp_path)
    text = (folder / "model.json").read_text(encoding="utf-8")
    assert not {"memory_budget_gb", "precision"} & json.loads(text)["prediction"].keys()
    tree = json.loads(text)
    tree["prediction"] |= {"memory_budget_gb": 0.25, "precision": "bfloat16", "seed": 3}
    (folder / "model.json").write_text(json.dumps(tree), encoding="utf-8")  # as it was written
    settings = load_bundle(folder, "cpu").spec.prediction
    assert (settings.memory_budget_gb, settings.precision, settings.seed) == (4.0, "float32", 3)
