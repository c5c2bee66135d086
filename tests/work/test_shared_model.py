"""The key of a model: by it finished cases are known again."""

from __future__ import annotations

from medseg_nca.inference.predictor import Predictor
from medseg_nca.tracking.resolve import load_segmentation
from medseg_nca.work.shared_model import SharedModel

# If this changes, every finished prediction and evaluation of every user is made again: keep a new
# setting out of the key, or give it a default under which results are what they were.
KEY = "1d40b8996071684701482e0df6bbb20713cd496c0598e8dc5c4540fb1e2df56c"


def test_the_key_of_a_model_stays() -> None:
    """As it was before models carried estimates and intensities: older results stay finished."""
    loaded = load_segmentation("zoo:nuclei")
    known = loaded.spec.plan.training
    assert known is not None
    plan = loaded.spec.plan.changed(training=known.changed(intensities=None))
    spec = loaded.spec.changed(plan=plan, trust=None)
    older = type(loaded)(loaded.model, spec, loaded.folder, loaded.device)
    assert SharedModel(Predictor(older)).key == KEY


def test_what_decides_a_result_is_in_the_key() -> None:
    loaded = load_segmentation("zoo:nuclei")
    keys = {SharedModel(Predictor(loaded)).key}
    for change in ({"seed": 1}, {"flips": (0,)}, {"fire": "sample"}):
        settings = loaded.spec.prediction.changed(**change)
        keys.add(SharedModel(Predictor(loaded, settings)).key)
    assert len(keys) == 4


def test_what_belongs_to_the_training_or_the_machine_is_not() -> None:
    loaded = load_segmentation("zoo:nuclei")
    before = SharedModel(Predictor(loaded)).key
    ours = {"persist": {"extra": 2}}
    for change in ({"coarse_gradient": 0.5}, {"engine": "reference"}, {"checkpoint": 4}, ours):
        spec = loaded.spec.changed(model=loaded.spec.model.changed(**change))
        other = Predictor(type(loaded)(loaded.model, spec, loaded.folder, loaded.device))
        assert SharedModel(other).key == before
