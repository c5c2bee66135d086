"""The second answer, and estimates as the predictor gives them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from medseg_nca.config import Label, LabelTable
from medseg_nca.config.training import PredictionSettings
from medseg_nca.config.trust import GateSettings, TrustSection
from medseg_nca.inference.bundle import LoadedModel, load_bundle, save_loaded
from medseg_nca.inference.predictor import Predictor
from medseg_nca.inference.second_look import SecondLook, shifted
from medseg_nca.trust.fit import TrustRow, fit_section
from medseg_nca.work.shared_model import SharedModel
from tests.inference.test_predictor import bundle_of, volume_of

ONE = LabelTable(labels=(Label(name="a", values=(3,)),))


def section_for(loaded: LoadedModel, cases: int = 6) -> TrustSection:
    """A section that was fitted on answers of the model itself, with a made-up Dice."""
    predictor = Predictor(loaded, measures=True)
    rows = []
    for case in range(cases):
        volume = volume_of(12, 10, 8)
        array = np.random.default_rng(case).normal(size=volume.array.shape).astype(np.float32)
        features = predictor.predict(volume.with_array(array)).features
        assert features is not None
        rows += [
            TrustRow(name, f"p{case}", f"c{case}", True, found, found["agreement"])
            for name, found in features.items()
        ]
    section = fit_section(rows, confidence=0.9)
    assert section is not None
    return section


def trusting(folder: Path, **plan: Any) -> LoadedModel:
    loaded = bundle_of(folder, **plan)
    return replace(loaded, spec=loaded.spec.changed(trust=section_for(loaded)))


def test_a_shift_by_one_voxel_and_back() -> None:
    image = torch.arange(12.0).reshape(1, 1, 3, 4)
    moved = shifted(image)
    assert torch.equal(moved[0, 0, 1:, 1:], image[0, 0, :-1, :-1])
    assert torch.equal(moved[0, 0, 0], torch.tensor([0.0, 0.0, 1.0, 2.0]))
    flat = torch.arange(4.0).reshape(1, 1, 1, 4)
    assert torch.equal(shifted(flat)[0, 0, 0], torch.tensor([0.0, 0.0, 1.0, 2.0]))


def test_a_second_look_worked_by_hand() -> None:
    """Two windows of a 1 x 4 image; logits are those of probabilities 0.8, 0.6, 0.4 and 0.1."""
    probability = torch.tensor([0.8, 0.6, 0.4, 0.1])
    logits = torch.stack([torch.log(1 - probability), torch.log(probability)])[None, :, None]
    look = SecondLook(ONE, (1, 4))
    look.add((slice(0, 1), slice(0, 3)), logits[..., :3])
    look.add((slice(0, 1), slice(3, 4)), logits[..., 3:])
    # The answer [3, 3, 0, 0] is shifted back by a voxel, and its end is repeated.
    assert look.answer().tolist() == [[3, 0, 0, 0]]
    certainty = look.certainty()["a"]
    assert certainty.probability == pytest.approx(0.7)
    assert certainty.outside == pytest.approx((0.4 + 0.1) / 2)
    entropy = -sum(p * np.log(p) + (1 - p) * np.log(1 - p) for p in (0.8, 0.6)) / 2
    assert certainty.entropy == pytest.approx(entropy)


def test_the_answer_itself_is_the_same_with_and_without_an_estimate(tmp_path: Path) -> None:
    loaded = trusting(tmp_path)
    volume = volume_of(12, 10, 8)
    for settings in (PredictionSettings(), PredictionSettings(flips=(0,), uncertainty=2)):
        plain = Predictor(loaded, settings.changed(estimate=False)).predict(volume)
        estimated = Predictor(loaded, settings).predict(volume)
        assert np.array_equal(plain.label_map.array, estimated.label_map.array)
        assert plain.estimate.verdict == "unknown"
        assert "prediction.estimate" in plain.estimate.reasons[0]
        assert estimated.estimate.labels


def test_the_same_image_gives_the_same_estimate_on_both_engines(tmp_path: Path) -> None:
    loaded = trusting(tmp_path)
    save_loaded(tmp_path / "kept", loaded)
    volume = volume_of(12, 10, 8)
    found = [
        Predictor(load_bundle(tmp_path / "kept", "cpu", engine)).predict(volume).estimate
        for engine in ("cpu", "cpu", "reference")
    ]
    assert found[0].to_dict() == found[1].to_dict()
    assert found[0].verdict == found[2].verdict
    for name, label in found[0].labels.items():
        assert label.dice == pytest.approx(found[2].labels[name].dice, abs=0.02)


def test_a_model_without_a_section_says_that_it_knows_nothing(tmp_path: Path) -> None:
    found = Predictor(bundle_of(tmp_path)).predict(volume_of(12, 10, 8))
    assert found.features is None
    assert found.estimate.verdict == "unknown"
    assert found.estimate.dice is None
    assert "medseg-nca trust" in found.estimate.reasons[0]


def test_other_settings_than_those_of_the_fit_are_never_accepted(tmp_path: Path) -> None:
    loaded = trusting(tmp_path)
    section = loaded.spec.trust
    assert section is not None
    fitted = section.changed(prediction={"flips": [], "step_factor": 1.0}, novelty=1e6)
    loaded = replace(loaded, spec=loaded.spec.changed(trust=fitted))
    gate = GateSettings(acceptable=0.01)
    volume = volume_of(12, 10, 8)
    same = Predictor(loaded, PredictionSettings(gate=gate)).predict(volume).estimate
    other = Predictor(loaded, PredictionSettings(gate=gate, step_factor=2.0)).predict(volume)
    assert not any("step_factor" in reason for reason in same.reasons)
    assert other.estimate.verdict != "accept"
    assert any(
        "fitted with prediction.step_factor = 1.0" in reason for reason in other.estimate.reasons
    )


def test_an_image_unlike_the_training_is_never_accepted(tmp_path: Path) -> None:
    known = {
        "spacing": (1.0, 1.0, 2.0), "finest": (1.0, 1.0, 2.0), "coarsest": (1.0, 1.0, 2.0),
        "smallest": (100.0,) * 3, "largest": (120.0,) * 3, "orientations": ("RAS",),
    }  # fmt: skip
    loaded = trusting(tmp_path, training=known)
    found = Predictor(loaded, PredictionSettings(gate=GateSettings(acceptable=0.01)))
    estimate = found.predict(volume_of(12, 10, 8)).estimate
    assert estimate.verdict != "accept"
    assert any("unlike those that the model learned from" in text for text in estimate.reasons)


def test_without_memory_for_a_second_look_the_answer_comes_without_an_estimate(
    tmp_path: Path,
) -> None:
    loaded = trusting(tmp_path)
    volume = volume_of(80, 80, 80)
    found = None
    for budget in np.linspace(0.12, 0.2, 33):
        predictor = Predictor(loaded, PredictionSettings(memory_budget_gb=float(budget)))
        try:
            found = predictor.predict(volume)
        except Exception as error:
            assert "memory" in str(error)  # noqa: PT017
            continue
        break
    assert found is not None
    assert found.estimate.verdict == "unknown"
    assert "memory budget" in found.estimate.reasons[0]
    assert Predictor(loaded).predict(volume).estimate.labels


def test_a_new_section_makes_finished_cases_new(tmp_path: Path) -> None:
    loaded = trusting(tmp_path)
    without = replace(loaded, spec=loaded.spec.changed(trust=None))
    keys = {SharedModel(Predictor(model)).key for model in (loaded, without)}
    assert len(keys) == 2


def test_the_section_is_kept_in_the_model_s_file(tmp_path: Path) -> None:
    loaded = trusting(tmp_path)
    save_loaded(tmp_path / "again", loaded)
    assert load_bundle(tmp_path / "again", "cpu").spec.trust == loaded.spec.trust
    text = (tmp_path / "again" / "model.json").read_text("utf-8")
    assert len(text.splitlines()) < 400  # a line for each tree, not for each number
