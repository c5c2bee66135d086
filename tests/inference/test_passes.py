"""The passes of an image, one by one: they are those that the predictor averages."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from medseg_nca.config.training import PredictionSettings
from medseg_nca.errors import ImageError, Interrupted
from medseg_nca.inference.passes import stochastic_passes
from medseg_nca.inference.predictor import Predictor
from medseg_nca.job import Job
from tests.inference.test_predictor import bundle_of, volume_of


def test_their_mean_is_the_answer_of_the_predictor(tmp_path: Path) -> None:
    """Also padded: the image is smaller than the samples of the training."""
    volume = volume_of(6, 11, 9)
    settings = PredictionSettings(uncertainty=3, probabilities=True, seed=5)
    predictor = Predictor(bundle_of(tmp_path), settings)
    passes = list(stochastic_passes(predictor, volume, 3))
    assert len(passes) == 3
    assert not np.array_equal(passes[0], passes[1])
    answer = predictor.predict(volume)
    assert answer.probabilities is not None
    assert answer.uncertainty is not None
    np.testing.assert_allclose(np.mean(passes, 0), answer.probabilities.array, atol=1e-5)
    spread = np.std([1 - found[0] for found in passes], axis=0)
    np.testing.assert_allclose(spread, answer.uncertainty.array[0], atol=1e-5)


def test_they_are_refused_and_stopped_as_a_prediction_is(tmp_path: Path) -> None:
    predictor = Predictor(bundle_of(tmp_path))
    with pytest.raises(ImageError, match="axes"):
        next(stochastic_passes(predictor, volume_of(12, 12), 2))
    job = Job()
    passes = stochastic_passes(predictor, volume_of(8, 8, 8), 2, job)
    next(passes)
    job.cancel()
    with pytest.raises(Interrupted):
        next(passes)
