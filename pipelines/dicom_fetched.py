"""The folder of fetched series: where each lies, what the manifest ``fetch.json`` says of it.

No name comes from a text of the archive: folders are called by the hashes of their UIDs, files by
their instance number and the hash of theirs. A folder of a series is whole, as it is renamed when
all of it is there.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from medseg_nca import __version__
from medseg_nca.errors import DataError, OutputError
from medseg_nca.io.atomic import remove_leftovers, write_json
from medseg_nca.io.dicom.remote import ReceivedFile, RemoteSeries, fault_of, look_at

MANIFEST = "fetch.json"
_FORMAT = 1
# Digits of a hash in a name, and seconds between two writings of the manifest.
_DIGITS, _PAUSE = 16, 5.0
_HIGHEST_NUMBER = 999_999
_EMPTY = {"format": _FORMAT, "version": __version__, "series": [], "passed_over": {}}


class TwoObjects(DataError):  # noqa: N818
    """Two objects that are not equal have one SOPInstanceUID."""


@dataclass(frozen=True)
class Fetched:
    """A series that is there.

    Attributes:
        folder: below that of the manifest, with "/".
        study_uid, series_uid, modality: as the archive told them.
        files: how many.
        bytes: of all of them.
        archive: address that they came from.
        fetched: when, UTC.
    """

    folder: str
    study_uid: str
    series_uid: str
    modality: str
    files: int
    bytes: int
    archive: str
    fetched: str


class FetchedFolder:
    """A folder of fetched series, perhaps with those of earlier runs.

    Args:
        root: the folder; it is made.

    Raises:
        OutputError: if it holds something else, or cannot be written.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        tree = _read(root)
        try:
            self._series = {one["folder"]: Fetched(**one) for one in tree["series"]}
            self._passed_over = {str(name): str(why) for name, why in tree["passed_over"].items()}
        except (TypeError, KeyError, AttributeError) as error:
            raise _foreign(root / MANIFEST) from error
        self._written = float("-inf")
        for folder in root.glob("*/"):
            if len(folder.name) == _DIGITS:
                remove_leftovers(folder)

    def place(self, series: RemoteSeries) -> str:
        """The folder of a series, below the root."""
        return f"{_hash(series.study_uid)}/{_hash(series.uid)}"

    def is_passed_over(self, series: RemoteSeries, select: str | None) -> bool:
        """Whether the headers of a series, as the archive has it, did not meet a selection."""
        return self._passed_over.get(self.place(series)) == _reason(series, select)

    def has(self, series: RemoteSeries) -> bool:
        """Whether all is there that the archive has of a series now."""
        place = self.place(series)
        paths = _files(self.root / place)
        known = self._series.get(place)
        if known is None:  # a run that was killed before it wrote the manifest
            return series.instances is not None and not fault_of(series, map(look_at, paths))
        size = sum(path.stat().st_size for path in paths)
        there = (len(paths), size) == (known.files, known.bytes)
        return there and known.files >= (series.instances or 0)

    def add(self, series: RemoteSeries, archive: str) -> Fetched:
        """Note a series whose folder stands in its place."""
        place = self.place(series)
        paths = _files(self.root / place)
        size = sum(path.stat().st_size for path in paths)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        done = Fetched(
            place, series.study_uid, series.uid, series.modality, len(paths), size, archive, now
        )
        self._series[place] = done
        if time.monotonic() - self._written > _PAUSE:
            self.write()
        return done

    def pass_over(self, series: RemoteSeries, select: str | None) -> None:
        """Note that the headers of a series do not meet a selection."""
        self._passed_over[self.place(series)] = _reason(series, select)

    def write(self) -> None:
        """Write the manifest.

        Raises:
            OutputError: if it cannot be written.
        """
        series = [asdict(one) for _, one in sorted(self._series.items())]
        write_json(self.root / MANIFEST, {**_EMPTY, "series": series,
                                          "passed_over": self._passed_over})  # fmt: skip
        self._written = time.monotonic()


def settle_names(paths: Sequence[Path]) -> tuple[Path, ...]:
    """Give files their names: instance number, and hash of the SOPInstanceUID or of the content.

    A second copy of an instance is removed.

    Raises:
        TwoObjects: if two different objects have one SOPInstanceUID.
    """
    named: dict[str, Path] = {}
    for path in paths:
        name = _name(look_at(path))
        target = path.with_name(name)
        if name not in named:
            named[name] = path.rename(target)
        elif path.read_bytes() == target.read_bytes():
            path.unlink()
        else:
            raise TwoObjects("The archive sends two different objects with one SOPInstanceUID.")
    return tuple(named.values())


def _name(file: ReceivedFile) -> str:
    number = file.number if file.number is not None and file.number >= 0 else 0
    if file.sop_uid:
        key = _hash(file.sop_uid)
    else:
        with file.path.open("rb") as stream:
            key = hashlib.file_digest(stream, "sha256").hexdigest()[:_DIGITS]
    return f"{min(number, _HIGHEST_NUMBER):06d}-{key}.dcm"


def _hash(uid: str) -> str:
    return hashlib.sha256(uid.encode()).hexdigest()[:_DIGITS]


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.dcm"))


def _reason(series: RemoteSeries, select: str | None) -> str:
    """A key that changes with the selection and with what the archive has."""
    text = f"{select} {series.instances}"
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]


def _read(root: Path) -> dict[str, Any]:
    """The manifest of a folder; a new folder gets an empty one."""
    path = root / MANIFEST
    if not path.exists():
        if root.is_file() or (root.is_dir() and any(root.iterdir())):
            raise OutputError(
                f"{root}: holds something else, and no {MANIFEST}.",
                hint="Name a new folder, an empty one, or one of an earlier fetch.",
            )
        write_json(path, _EMPTY)
        return dict(_EMPTY)
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _foreign(path) from error
    if not isinstance(tree, dict) or tree.get("format") != _FORMAT:
        raise _foreign(path)
    return tree


def _foreign(path: Path) -> OutputError:
    return OutputError(
        f"{path}: is no manifest of fetched series.",
        hint="Name a new folder; what was fetched before is then fetched again.",
    )
