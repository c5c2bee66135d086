"""Series on the disk from their arrival until they are computed.

The truth is the file system: ``<folder>/<key of the series>/<key of the instance>.dcm``, with the
UIDs of the series in ``series.json`` beside them. Names are hashes, so that nothing that a peer
sends becomes a path. One process writes; any number may look.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import re
import secrets
import shutil
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from medseg_nca.serving.jobs.disk import to_disk
from medseg_nca.serving.node.arriving import Arrival, SpoolFull, content_digest, told_when_full

__all__ = ["Arrival", "Kept", "Spool", "SpoolFull", "SpooledSeries", "instance_key", "series_key"]

_LOG = logging.getLogger(__name__)
_ARRIVING, _LEAVING = ".arriving", ".leaving"
_ABOUT = "series.json"
_KEY = re.compile(r"[0-9a-f]{32}")
_FILE = re.compile(r"[0-9a-f]{32}\.dcm")
_CHUNK = 2**20
# Where a file system makes no hard link: another disk, no such links, or too many of one file.
_NO_LINK = (errno.EXDEV, errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK)


@dataclass(frozen=True)
class Kept:
    """What became of an instance.

    Attributes:
        key: of its series.
        is_new: it was not there before.
        replaced: it was there with other content. Where neither is true, nothing has changed.
    """

    key: str
    is_new: bool
    replaced: bool


@dataclass(frozen=True)
class SpooledSeries:
    """A series in the spool.

    Attributes:
        key: of the series, see :func:`series_key`.
        study_uid: StudyInstanceUID.
        series_uid: SeriesInstanceUID.
        files: how many instances there are; at least one.
        bytes: of all files.
        last: when an instance was last added or replaced, in seconds since 1970.
    """

    key: str
    study_uid: str
    series_uid: str
    files: int
    bytes: int
    last: float

    @property
    def signature(self) -> str:
        """The same as long as no instance is added or replaced."""
        return f"{self.files} {self.bytes} {self.last:.6f}"


def series_key(study_uid: str, series_uid: str) -> str:
    """The name of a series in the spool: 32 hexadecimal digits."""
    return hashlib.sha256(f"{study_uid}\0{series_uid}".encode()).hexdigest()[:32]


def instance_key(sop_uid: str) -> str:
    """The name of an instance in the spool: 32 hexadecimal digits."""
    return hashlib.sha256(sop_uid.encode()).hexdigest()[:32]


class Spool:
    """Keeps instances by series; may be used from several threads.

    Args:
        folder: is made where it is absent, for this user alone.
        reserve_bytes: that are to stay free on its disk.
    """

    def __init__(self, folder: Path, *, reserve_bytes: int = 0) -> None:
        self.folder, self.reserve_bytes = Path(folder), reserve_bytes
        self._lock = threading.Lock()
        self._about: dict[str, tuple[str, str]] = {}
        # Of each series by the names of its files.
        self._digests: dict[str, dict[str, tuple[tuple[int, int, int], str]]] = {}
        with told_when_full():
            for place in (self.folder, self.folder / _ARRIVING, self.folder / _LEAVING):
                place.mkdir(mode=0o700, parents=True, exist_ok=True)

    def remove_leftovers(self) -> int:
        """Remove what a killed process has left half-written or half-removed; returns how many.

        Only for the process that writes, before it does.
        """
        left = [p for name in (_ARRIVING, _LEAVING) for p in (self.folder / name).iterdir()]
        for path in left:
            _erase(path)
        return len(left)

    @contextmanager
    def arrival(self) -> Iterator[Arrival]:
        """Yield a file to write an instance into; it is removed unless it was adopted meanwhile.

        Raises:
            SpoolFull: if there is no room.
        """
        arrival = self.begin()
        try:
            yield arrival
        finally:
            arrival.discard()

    def begin(self) -> Arrival:
        """Open a file to write an instance into; the caller adopts or discards it.

        Raises:
            SpoolFull: if there is no room.
        """
        return Arrival(self.folder / _ARRIVING, self.reserve_bytes)

    def keep(self, stream: BinaryIO, study_uid: str, series_uid: str, sop_uid: str) -> Kept:
        """Keep a DICOM file; see :meth:`adopt`."""
        with self.arrival() as arrival:
            while block := stream.read(_CHUNK):
                arrival.write(block)
            return self.adopt(arrival, study_uid, series_uid, sop_uid)

    def adopt(self, arrival: Arrival, study_uid: str, series_uid: str, sop_uid: str) -> Kept:
        """Make a file that was written an instance of a series.

        When this returns, the instance outlives a loss of power. An instance that is there already
        with the same data set stays as it is, with its time; another one is replaced.

        Raises:
            SpoolFull: if there is no room; nothing is left of the file then.
            OutputError: if something else is wrong with the disk.
        """
        key, name = series_key(study_uid, series_uid), f"{instance_key(sop_uid)}.dcm"
        place = self.folder / key / name
        try:
            arrival.finish()
            with told_when_full():
                digest = content_digest(arrival.path)
                with self._lock:
                    was_there = place.exists()
                    same = was_there and self._digest_of(place) == digest
                    self._make_series(key, study_uid, series_uid)
                    if not same:
                        os.replace(arrival.path, place)
                        known = self._digests.setdefault(key, {})
                        known[name] = _signature(place), digest
                    to_disk(place.parent)
            return Kept(key, is_new=not was_there, replaced=was_there and not same)
        finally:
            arrival.discard()

    def series(self) -> list[SpooledSeries]:
        """All series that have an instance, by key."""
        found = [self._look(path) for path in sorted(self._folders())]
        return [one for one in found if one is not None]

    def find(self, key: str) -> SpooledSeries | None:
        """One series; None if there is none, or it has no instance."""
        return self._look(self.folder / _checked(key))

    def files(self, key: str) -> tuple[Path, ...]:
        """The files of a series by name; () where there is no such series."""
        folder = self.folder / _checked(key)
        try:
            return tuple(sorted(path for path in folder.iterdir() if _FILE.fullmatch(path.name)))
        except FileNotFoundError:
            return ()

    def digest(self, key: str) -> str:
        """What stands for the content of a series: SHA-256 over its instances and their data sets.

        It depends neither on the order of arrival nor on who sent the instances.
        """
        return self._digest(key, self.files(key))

    def copy_to(self, key: str, folder: Path) -> str:
        """Make a new folder with the files of a series as they are together at one moment.

        The files are hard links where the file system makes such links. They never change: an
        instance that is replaced in the spool is another file.

        Returns:
            The digest of exactly these files.

        Raises:
            SpoolFull: if there is no room; the folder is not there then.
            OutputError: if something else is wrong with the disk.
        """
        with told_when_full():
            folder.mkdir(mode=0o700)
            try:
                with self._lock:
                    for path in self.files(key):
                        _link(path, folder / path.name)
                digest = self._digest(key, tuple(sorted(folder.iterdir())))
                to_disk(folder)
            except BaseException:
                shutil.rmtree(folder, ignore_errors=True)
                raise
        return digest

    def remove(self, key: str, digest: str) -> bool:
        """Remove a series that was computed.

        Returns:
            False if it is no longer what the digest stands for; nothing is removed then.
        """
        before = self.digest(key)  # without the lock: large series take their time
        with told_when_full(), self._lock:
            if before != digest or self.digest(key) != digest or not self.files(key):
                return False
            self._drop(key)
        return True

    def held(self, sop_uids: Iterable[str]) -> set[str]:
        """Those of many instances that lie in the spool; looks at each file of it once."""
        wanted = {instance_key(uid): uid for uid in sop_uids}
        found: set[str] = set()
        for folder in self._folders():
            found |= {path.stem for path in self.files(folder.name)} & wanted.keys()
        return {wanted[key] for key in found}

    def _folders(self) -> list[Path]:
        return [path for path in self.folder.iterdir() if _KEY.fullmatch(path.name)]

    def _look(self, folder: Path) -> SpooledSeries | None:
        """None if there is no instance, or nothing that says of which series."""
        facts = []
        for path in self.files(folder.name):
            with suppress(FileNotFoundError):
                facts.append(path.stat())
        about = self._uids(folder)
        if not facts or about is None:
            return None
        return SpooledSeries(
            folder.name, *about, len(facts), sum(fact.st_size for fact in facts),
            max(fact.st_mtime for fact in facts),
        )  # fmt: skip

    def _uids(self, folder: Path) -> tuple[str, str] | None:
        about = self._about.get(folder.name)
        if about is None:
            try:
                tree = json.loads((folder / _ABOUT).read_text(encoding="utf-8"))
                about = str(tree["study_uid"]), str(tree["series_uid"])
            except FileNotFoundError:  # the series was removed meanwhile
                return None
            except (ValueError, KeyError, TypeError, OSError):
                _LOG.error("The spool's folder %s has a damaged %s.", folder.name, _ABOUT)
                return None
            self._about[folder.name] = about
        return about

    def _make_series(self, key: str, study_uid: str, series_uid: str) -> None:
        """Make the folder of a series, with its UIDs, unless it is there and whole."""
        folder = self.folder / key
        if self._uids(folder) is not None and folder.is_dir():
            return
        new = self.folder / _ARRIVING / secrets.token_hex(16)
        try:
            new.mkdir(mode=0o700)
            about = new / _ABOUT
            about.write_text(json.dumps({"study_uid": study_uid, "series_uid": series_uid}))
            about.chmod(0o600)
            to_disk(about, new)
            if folder.is_dir():  # it has lost the UIDs
                os.replace(about, folder / _ABOUT)
            else:
                os.replace(new, folder)
            to_disk(self.folder)
        finally:
            shutil.rmtree(new, ignore_errors=True)

    def _digest(self, key: str, files: tuple[Path, ...]) -> str:
        found = hashlib.sha256()
        for path in files:
            found.update(f"{path.stem} {self._digest_of(path, key)}\n".encode())
        return found.hexdigest()

    def _digest_of(self, path: Path, key: str | None = None) -> str:
        """Of one file, which is read only if it is another one than the last time."""
        digests = self._digests.setdefault(key or path.parent.name, {})
        signature, known = _signature(path), digests.get(path.name)
        if known is None or known[0] != signature:
            known = digests[path.name] = signature, content_digest(path)
        return known[1]

    def _drop(self, key: str) -> None:
        """Take a series out at one stroke, then remove its files."""
        leaving = self.folder / _LEAVING / secrets.token_hex(16)
        os.replace(self.folder / key, leaving)
        to_disk(self.folder)
        self._about.pop(key, None)
        self._digests.pop(key, None)
        _erase(leaving)


def _checked(key: str) -> str:
    if not _KEY.fullmatch(key):
        raise ValueError("A key of the spool has 32 hexadecimal digits.")
    return key


def _signature(path: Path) -> tuple[int, int, int]:
    fact = path.stat()
    return fact.st_ino, fact.st_size, fact.st_mtime_ns


def _link(path: Path, to: Path) -> None:
    try:
        os.link(path, to)
    except OSError as error:
        if error.errno not in _NO_LINK:
            raise
        shutil.copy2(path, to)
        to_disk(to)


def _erase(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
