"""What the validation decides about flips and islands, with a model whose answers are known."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from medseg_nca.config.data import AugmentSettings
from medseg_nca.config.training import PredictionSettings
from medseg_nca.datasets.prepared import PreparedCase
from medseg_nca.errors import NonFiniteStateError
from medseg_nca.inference.bundle import LoadedModel, load_bundle
from medseg_nca.io.volume import Volume
from medseg_nca.io.write import write_volume
from medseg_nca.job import Job
from medseg_nca.tasks.segmentation.settle import MakesPredictor, settle_prediction
from tests.tracking.tiny import save_tiny

FLIPPED = AugmentSettings(flip_axes=(0, 2))
AUTO = PredictionSettings(flips="auto", uncertainty=4)


def truth() -> np.ndarray:
    found = np.zeros((1, 12, 12, 12), np.uint8)
    found[0, 2:6, 2:6, 2:6] = 1
    found[0, 6:8, 2:6, 2:6] = 2
    return found


class Known:
    """Without flips it misses a slice; with them it is right but for an island."""

    seen: list[PredictionSettings]
    better = True

    def __init__(self, loaded: LoadedModel, settings: PredictionSettings) -> None:
        self.settings = settings
        Known.seen.append(settings)

    def predict(self, volume: Volume, job: Job | None = None) -> Any:
        found = truth()
        if bool(self.settings.flip_axes) != Known.better:
            found[0, 2] = 0
        found[0, -1, -1, -1] = 1
        return SimpleNamespace(label_map=volume.with_array(found))


@pytest.fixture(name="loaded")
def loaded_fixture(tmp_path: Path) -> LoadedModel:
    save_tiny(tmp_path)
    Known.seen, Known.better = [], True
    write_volume(Volume(truth().astype(np.float32), np.eye(4)), tmp_path / "image.nii.gz")
    write_volume(Volume(truth(), np.eye(4)), tmp_path / "label.nii.gz")
    return load_bundle(tmp_path, "cpu")


def settled(
    loaded: LoadedModel,
    settings: PredictionSettings = AUTO,
    cases: int = 3,
    augment: AugmentSettings = FLIPPED,
    make_predictor: MakesPredictor = Known,
) -> PredictionSettings:
    image, label = loaded.folder / "image.nii.gz", loaded.folder / "label.nii.gz"
    some = [
        PreparedCase(id=f"c{n}", images=(image,), label=label, shape=(12, 12, 12), key="k")
        for n in range(cases)
    ]
    return settle_prediction(loaded, settings, augment, some, make_predictor=make_predictor)[0]


def test_flips_that_help_are_kept_and_the_islands_are_judged_with_them(
    loaded: LoadedModel, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "medseg_nca")
    found = settled(loaded)
    assert (found.flips, found.largest, found.uncertainty) == ((0, 2), ("merged",), 4)
    assert "Flips of the axes 0, 2 are averaged, which takes 4 times as long: Dice" in caplog.text
    assert [s.flips for s in Known.seen] == [(), (0, 2), (0, 2)]
    assert {s.uncertainty for s in Known.seen} == {0}


def test_flips_that_harm_are_left_out(
    loaded: LoadedModel, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "medseg_nca")
    Known.better = False
    assert settled(loaded).flips == ()
    assert "Flips of the axes 0, 2 are left out: Dice" in caplog.text


def test_nothing_is_flipped_that_was_not_trained_or_is_not_proved(
    loaded: LoadedModel, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "medseg_nca")
    for augment in (AugmentSettings(), FLIPPED.model_copy(update={"enabled": False})):
        assert settled(loaded, augment=augment).flips == ()
    assert "the training has flipped none" in caplog.text
    two = settled(loaded, cases=2)
    assert (two.flips, two.largest) == ((), ())
    assert "left out: there are 2 validation cases, and fewer than 3 prove nothing" in caplog.text


def test_what_is_said_is_done_without_a_trial(loaded: LoadedModel) -> None:
    given = PredictionSettings(flips=(1,), largest=("post",))
    assert settled(loaded, given) == given
    assert Known.seen == []


def test_a_state_that_is_not_finite_decides_nothing(loaded: LoadedModel) -> None:
    class Fails(Known):
        def predict(self, volume: Volume, job: Job | None = None) -> Any:
            raise NonFiniteStateError(3)

    found = settled(loaded, make_predictor=Fails)
    assert (found.flips, found.largest) == ((), ())
