"""Models in memory, for processes that live long: several, bounded, each loaded once."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import CancelledError, Future

from medseg_nca.inference.bundle import LoadedModel


class ModelStore:
    """Keeps the models that were asked for last; may be used from several threads at once.

    A model that goes is released as soon as nobody predicts with it any more. The one that was
    asked for last always stays.

    Args:
        most: how many models are kept.
        most_bytes: how much memory their weights may take together.

    Example:
        >>> store = ModelStore(most=2)
        >>> model = store.get("first", lambda: load_model("zoo:hippocampus"))
        >>> store.get("first", lambda: load_model("zoo:hippocampus")) is model
        True
    """

    def __init__(self, most: int = 4, most_bytes: float = 4e9) -> None:
        self._most, self._most_bytes = most, most_bytes
        self._lock = threading.Lock()
        # From the one that was asked for longest ago to the one that was asked for last.
        self._models: OrderedDict[Hashable, Future[LoadedModel]] = OrderedDict()

    def get(self, key: Hashable, load: Callable[[], LoadedModel]) -> LoadedModel:
        """Return a model; whoever asks for it first loads it, all others wait for that.

        Args:
            key: of the model with its device. An alias that moves is no key: the version is.
            load: loads it.

        Raises:
            Exception: what ``load`` raises, for everybody who waits for it. The next one to ask
                tries again.
        """
        while True:
            with self._lock:
                future = self._models.get(key)
                if future is None:
                    mine: Future[LoadedModel] = Future()
                    self._models[key] = mine
                    break
                self._models.move_to_end(key)
            try:
                return future.result()
            except CancelledError:  # who was to load it was interrupted
                continue
        return self._load(key, mine, load)

    def forget(self, key: Hashable) -> None:
        """Let a model go, if it is there."""
        with self._lock:
            self._models.pop(key, None)

    @property
    def keys(self) -> tuple[Hashable, ...]:
        """Of the models that are here, the one that was asked for last at the end."""
        with self._lock:
            return tuple(key for key, future in self._models.items() if _is_there(future))

    @property
    def bytes(self) -> int:
        """What the weights of the models that are here take."""
        with self._lock:
            return self._bytes()

    def _load(
        self, key: Hashable, mine: Future[LoadedModel], load: Callable[[], LoadedModel]
    ) -> LoadedModel:
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
        return sum(f.result().bytes for f in self._models.values() if _is_there(f))


def _is_there(future: Future[LoadedModel]) -> bool:
    return future.done() and not future.cancelled() and future.exception() is None
