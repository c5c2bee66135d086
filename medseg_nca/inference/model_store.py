"""A store of loaded models for long-lived processes, which bounds their number and memory."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import CancelledError, Future
from typing import Any, Protocol, TypeVar


class HasBytes(Protocol):
    """A model whose weights take a known amount of memory."""

    @property
    def bytes(self) -> int:
        """The memory that the weights take, in bytes."""


Model = TypeVar("Model", bound=HasBytes)


class ModelStore:
    """Keeps the models that were used last in memory; safe to use from several threads at once.

    The models may belong to any tasks.

    When there are too many, the model that was not used for the longest time is dropped. Its
    memory is released as soon as no prediction uses it any more. The model that was asked for last
    always stays.

    Args:
        most: the largest number of models that are kept.
        most_bytes: the largest memory of all their weights together, in bytes.

    Example:
        >>> store = ModelStore(most=2)
        >>> model = store.get("first", lambda: load_model("zoo:hippocampus"))
        >>> store.get("first", lambda: load_model("zoo:hippocampus")) is model
        True
    """

    def __init__(self, most: int = 4, most_bytes: float = 4e9) -> None:
        self._most, self._most_bytes = most, most_bytes
        self._lock = threading.Lock()
        # In the order in which the models were last asked for, the latest at the end.
        self._models: OrderedDict[Hashable, Future[Any]] = OrderedDict()

    def get(self, key: Hashable, load: Callable[[], Model]) -> Model:
        """Return a model. The first thread that asks for it loads it; the other threads wait.

        Args:
            key: identifies the model, its device and its engine. Use a version in it, not an
                alias, because an alias may point to another version later.
            load: loads the model.

        Raises:
            Exception: whatever ``load`` raises, in every thread that waits for it. The next call
                tries to load the model again.
        """
        while True:
            with self._lock:
                future = self._models.get(key)
                if future is None:
                    mine: Future[Any] = Future()
                    self._models[key] = mine
                    break
                self._models.move_to_end(key)
            try:
                found: Model = future.result()
                return found
            except CancelledError:  # the thread that was loading the model was interrupted
                continue
        return self._load(key, mine, load)

    def forget(self, key: Hashable) -> None:
        """Drop a model, if the store has it."""
        with self._lock:
            self._models.pop(key, None)

    @property
    def keys(self) -> tuple[Hashable, ...]:
        """Return the keys of the models in the store, the latest one used at the end."""
        with self._lock:
            return tuple(key for key, future in self._models.items() if _is_there(future))

    @property
    def bytes(self) -> int:
        """Return the memory that the weights of all models in the store take, in bytes."""
        with self._lock:
            return self._bytes()

    def _load(self, key: Hashable, mine: Future[Any], load: Callable[[], Model]) -> Model:
        try:
            model = load()
        except BaseException as error:
            with self._lock:
                if self._models.get(key) is mine:
                    del self._models[key]
            if isinstance(error, Exception):
                mine.set_exception(error)
            else:
                mine.cancel()
            raise
        mine.set_result(model)
        with self._lock:
            self._make_room()
        return model

    def _make_room(self) -> None:
        there = [key for key, future in self._models.items() if _is_there(future)]
        for key in there[:-1]:
            if len(there) <= self._most and self._bytes() <= self._most_bytes:
                return
            del self._models[key]
            there.remove(key)

    def _bytes(self) -> int:
        return sum(int(f.result().bytes) for f in self._models.values() if _is_there(f))


def _is_there(future: Future[Any]) -> bool:
    return future.done() and not future.cancelled() and future.exception() is None
