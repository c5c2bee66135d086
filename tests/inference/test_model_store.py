"""Several models in one process: each loaded once, no more than fit."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from medseg_nca.errors import ModelError
from medseg_nca.inference.bundle import LoadedModel, load_bundle
from medseg_nca.inference.model_store import ModelStore
from tests.tracking.tiny import save_tiny


class Loader:
    """Loads a model and counts how often."""

    def __init__(self, folder: Path, seconds: float = 0.0) -> None:
        save_tiny(folder)
        self.folder, self.seconds, self.count = folder, seconds, 0

    def __call__(self) -> LoadedModel:
        self.count += 1
        time.sleep(self.seconds)
        return load_bundle(self.folder, "cpu")


@pytest.fixture
def load(tmp_path: Path) -> Loader:
    return Loader(tmp_path / "model")


def test_four_threads_that_ask_at_once_get_one_model(tmp_path: Path) -> None:
    load, store = Loader(tmp_path / "model", seconds=0.2), ModelStore()
    start = threading.Barrier(4)

    def ask(_: int) -> LoadedModel:
        start.wait()
        return store.get("a", load)

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(ask, range(4)))
    assert load.count == 1
    assert all(model is found[0] for model in found)


def test_what_was_asked_for_longest_ago_goes_first(load: Loader) -> None:
    store = ModelStore(most=2)
    for key in ("a", "b", "a", "c"):
        store.get(key, load)
    assert store.keys == ("a", "c")
    store.get("a", load)
    assert load.count == 3
    store.get("b", load)
    assert store.keys == ("a", "b")


def test_the_weights_of_all_fit_into_the_bound(load: Loader) -> None:
    one = load().bytes
    assert one > 0
    store = ModelStore(most=100, most_bytes=2.5 * one)
    for number in range(5):
        store.get(number, load)
    assert (store.keys, store.bytes) == ((3, 4), 2 * one)
    tight = ModelStore(most_bytes=0.5 * one)
    tight.get("large", load)
    assert tight.keys == ("large",)


def test_a_model_that_goes_is_released(load: Loader) -> None:
    store = ModelStore(most=1)
    gone = weakref.ref(store.get("a", load).model)
    store.get("b", load)
    gc.collect()
    assert gone() is None
    store.forget("b")
    assert not store.keys


def test_a_model_that_cannot_be_loaded_is_tried_again(load: Loader) -> None:
    def fail() -> LoadedModel:
        raise ModelError("the disk is gone")

    store = ModelStore()
    with pytest.raises(ModelError, match="the disk is gone"):
        store.get("a", fail)
    assert not store.keys
    assert store.get("a", load).spec.name == "tiny"


@pytest.mark.parametrize("raised", [ModelError("the disk is gone"), KeyboardInterrupt()])
def test_whoever_waits_is_not_left_waiting(load: Loader, raised: BaseException) -> None:
    """An error is everybody's; if the thread that loads is interrupted, the next one loads."""
    store, begun = ModelStore(), threading.Event()
    results: list[object] = []

    def fail() -> LoadedModel:
        begun.set()
        time.sleep(0.2)
        raise raised

    def ask(how: Callable[[], LoadedModel]) -> None:
        try:
            results.append(store.get("a", how).spec.name)
        except BaseException as error:
            results.append(error)

    first = threading.Thread(target=ask, args=(fail,))
    first.start()
    begun.wait()
    second = threading.Thread(target=ask, args=(load,))
    second.start()
    for thread in (first, second):
        thread.join(10)
    assert raised in results
    assert results.count(raised) == (2 if isinstance(raised, ModelError) else 1)
    assert load.count == (0 if isinstance(raised, ModelError) else 1)
