"""One predictor, several threads: the results are those of one thread, bit for bit."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch

from medseg_nca.errors import Interrupted
from medseg_nca.inference.bundle import LoadedModel
from medseg_nca.inference.predictor import Prediction, Predictor
from medseg_nca.io.volume import Volume
from medseg_nca.job import Job
from medseg_nca.tracking.resolve import load_segmentation

THREADS = 4


@pytest.fixture(scope="module")
def model() -> LoadedModel:
    return load_segmentation("zoo:hippocampus", device="cpu")


def noise(seed: int, shape: tuple[int, ...]) -> Volume:
    random = np.random.default_rng(seed)
    return Volume(random.integers(0, 1000, size=(1, *shape), dtype=np.int16), np.eye(4))


def same(one: Prediction, other: Prediction) -> bool:
    kinds = ("label_map", "probabilities", "uncertainty")
    pairs = [(getattr(one, kind), getattr(other, kind)) for kind in kinds]
    return all(
        (a is None and b is None) or (a.array.tobytes() == b.array.tobytes()) for a, b in pairs
    )


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"probabilities": True, "uncertainty": 2},
        {"precision": "bfloat16", "flips": (0,)},
    ],
)
def test_threads_get_what_one_thread_gets(model: LoadedModel, changes: dict[str, Any]) -> None:
    """The images differ in size, so that their steps do not go hand in hand.

    All is computed with one number of threads: with another one torch adds up in another order.
    """
    settings = model.spec.prediction.model_copy(update=changes)
    predictor = Predictor(model, settings)
    volumes = [noise(n, (16 + n, 20, 18)) for n in range(THREADS)]
    start = threading.Barrier(THREADS)

    def predict(number: int) -> list[Prediction]:
        start.wait()
        return [predictor.predict(volumes[(number + k) % THREADS]) for k in range(2)]

    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        expected = [predictor.predict(volume) for volume in volumes]
        with ThreadPoolExecutor(THREADS) as pool:
            found = list(pool.map(predict, range(THREADS)))
    finally:
        torch.set_num_threads(before)
    for number, predictions in enumerate(found):
        for k, prediction in enumerate(predictions):
            assert same(prediction, expected[(number + k) % THREADS])


def test_who_cancels_one_prediction_cancels_no_other(model: LoadedModel) -> None:
    predictor, volume = Predictor(model), noise(0, (20, 20, 20))
    expected = predictor.predict(volume)
    jobs = [Job(lambda _: jobs[0].cancel()), Job()]

    def predict(job: Job) -> Prediction | str:
        try:
            return predictor.predict(volume, job)
        except Interrupted as error:
            return error.message

    with ThreadPoolExecutor(2) as pool:
        cancelled, other = pool.map(predict, jobs)
    assert cancelled == "The work was cancelled."
    assert isinstance(other, Prediction)
    assert same(other, expected)
