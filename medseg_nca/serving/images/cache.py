"""Copies of series that lie on another server: fetched once, bounded, and forgotten soon."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from medseg_nca.io.atomic import atomic_folder, remove_leftovers
from medseg_nca.serving.images.image import key_of


class SeriesCache:
    """A folder of series; may be used from several threads.

    Args:
        folder: for them; one server at a time uses it.
        most_bytes: of all series; those that were not used for longest go first.
        age: seconds after the last use after which one is removed.
    """

    def __init__(self, folder: Path, most_bytes: int, age: float) -> None:
        self._folder, self._most, self._age = folder, most_bytes, age
        self._guard = threading.Lock()
        self._locks: dict[str, _Counted] = {}
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        remove_leftovers(folder)

    @contextmanager
    def using(
        self, name: str, is_good: Callable[[int, float], bool], fetch: Callable[[Path], object]
    ) -> Iterator[tuple[Path, ...]]:
        """The files of a series; nobody else uses or removes them meanwhile.

        Args:
            name: of the series. It becomes no part of a path.
            is_good: whether a copy still counts, by the number of its files and its seconds of age.
            fetch: fills an empty folder; what it raises is raised, and nothing is kept.

        Raises:
            OutputError: if the copy cannot be written.
        """
        key = key_of(name)
        place = self._folder / key
        with self._held(key):
            files = _files(place)
            if not files or not is_good(len(files), time.time() - files[0].stat().st_mtime):
                with atomic_folder(place) as folder:
                    fetch(folder)
                files = _files(place)
            os.utime(place)
            self._make_room(self._most, keep=key)
            yield files

    def sweep(self) -> None:
        """Remove what was not used for long."""
        self._make_room(self._most)
        for key, _, used in self._kept():
            if time.time() - used > self._age:
                self._remove(key)

    def _make_room(self, most: int, keep: str = "") -> None:
        kept = self._kept()
        total = sum(size for _, size, _ in kept)
        for key, size, _ in sorted(kept, key=lambda item: item[2]):
            if total <= most:
                return
            if key != keep and self._remove(key):
                total -= size

    def _kept(self) -> list[tuple[str, int, float]]:
        """Key, bytes and time of the last use of each series."""
        found = []
        for place in self._folder.iterdir():
            try:
                if place.is_dir() and not place.name.startswith("."):
                    size = sum(path.stat().st_size for path in place.iterdir())
                    found.append((place.name, size, place.stat().st_mtime))
            except OSError:  # removed meanwhile
                continue
        return found

    def _remove(self, key: str) -> bool:
        """Remove a series that nobody uses; whether that was so."""
        with self._guard:
            if key in self._locks:
                return False
            shutil.rmtree(self._folder / key, ignore_errors=True)
            return True

    @contextmanager
    def _held(self, key: str) -> Iterator[None]:
        with self._guard:
            counted = self._locks.setdefault(key, _Counted())
            counted.users += 1
        try:
            with counted.lock:
                yield
        finally:
            with self._guard:
                counted.users -= 1
                if not counted.users:
                    del self._locks[key]


class _Counted:
    """A lock, and how many hold it or wait for it."""

    def __init__(self) -> None:
        self.lock, self.users = threading.Lock(), 0


def _files(place: Path) -> tuple[Path, ...]:
    return tuple(sorted(place.glob("*.dcm")))
