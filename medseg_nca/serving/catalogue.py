"""Which models are served: found by their names, checked, copied, and followed when an alias moves.

Of a registry only the two data files are read, after their sha256 was compared with the tags of the
version (:mod:`medseg_nca.tracking.resolve`), so that an entry runs no code here.
"""

from __future__ import annotations

import hashlib
import logging
import re
import shutil
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from medseg_nca.config.training import TrackingSettings
from medseg_nca.errors import ConfigError, MedsegError, ModelError
from medseg_nca.inference.spec import SPEC, WEIGHTS, ModelSpec, read_spec
from medseg_nca.io.atomic import atomic_folder
from medseg_nca.serving.audit import AuditLog
from medseg_nca.serving.errors import Refused
from medseg_nca.serving.metrics import Metrics
from medseg_nca.serving.workers.messages import ModelInfo, file_sha256
from medseg_nca.suggest import unknown
from medseg_nca.tracking.resolve import CARD, VERSION, ZOO, find_version, locate

logger = logging.getLogger(__name__)

_ALIASED = re.compile(r"[\w][\w.\- ]*@[\w\-]+")
# What may stand in a URL as it is.
_SERVED = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]*")
_STRANGE = re.compile(r"[^A-Za-z0-9_.\-]+")


@dataclass(frozen=True)
class ServedEntry:
    """A model that somebody named.

    Attributes:
        name: that it is served under.
        reference: as :func:`medseg_nca.tracking.resolve.load_model` takes it.
    """

    name: str
    reference: str

    @property
    def moves(self) -> bool:
        """Whether it is named by an alias, which may point to another version later."""
        match = VERSION.fullmatch(self.reference)
        return match is not None and match["alias"] is not None


@dataclass(frozen=True)
class Served:
    """A model in service.

    Attributes:
        entry: how it was named.
        info: what results name, and where its files lie.
        spec: what it is.
        card: the text of its card; "" if it has none.
    """

    entry: ServedEntry
    info: ModelInfo
    spec: ModelSpec
    card: str


def parse_models(texts: Iterable[str]) -> tuple[ServedEntry, ...]:
    """Read what ``--models`` names: ``NAME@ALIAS``, ``zoo:NAME``, ``models:/...`` or a folder.

    ``served=REFERENCE`` serves a model under a name of its own. Without it the name is that of the
    registered model, of the zoo, or of the folder; a second one of the same name gets its origin or
    a number behind it.

    Raises:
        ConfigError: if a name cannot be served, or is used twice.
    """
    entries: dict[str, ServedEntry] = {}
    for part in (part.strip() for text in texts for part in text.split(",")):
        if not part:
            continue
        given, _, reference = part.rpartition("=")
        if _ALIASED.fullmatch(reference):
            reference = f"models:/{reference}"
        if given and (given in entries or _SERVED.fullmatch(given) is None):
            what = "is used twice" if given in entries else "cannot stand in a URL"
            raise ConfigError(
                f"--models: the name {given!r} {what}.", hint="Use letters, digits and _ . -"
            )
        name = given or _own_name(reference, entries)
        entries[name] = ServedEntry(name, reference)
    return tuple(entries.values())


def _own_name(reference: str, taken: Iterable[str]) -> str:
    version = VERSION.fullmatch(reference)
    if version is not None:
        base, origin = version["name"], version["alias"] or f"v{version['version']}"
    elif reference.startswith(ZOO):
        base, origin = reference.removeprefix(ZOO), "zoo"
    else:
        base, origin = Path(reference.rstrip("/")).name, "2"
    base = _STRANGE.sub("_", base).lstrip("_.-") or "model"
    known = set(taken)
    names = [base, f"{base}-{origin}", *(f"{base}-{number}" for number in range(2, 100))]
    return next(name for name in names if name not in known)


class Catalogue:
    """The models of a server; may be used from several threads.

    Args:
        entries: at least one.
        folder: for copies of their files.
        tracking: the store of registered models.
        audit: gets a line for each change.
        metrics: count them.

    Raises:
        ModelError: if a model does not exist, was changed since it was registered, or is of
            another task.
        TrackingError: if the registry cannot be used.
    """

    def __init__(
        self, entries: Sequence[ServedEntry], folder: Path, tracking: TrackingSettings,
        audit: AuditLog, metrics: Metrics,
    ) -> None:  # fmt: skip
        self._folder, self._tracking = folder, tracking
        self._audit, self._metrics = audit, metrics
        self._lock = threading.Lock()
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._refused: dict[str, str] = {}
        self._candidates: dict[str, Served] = {}
        self._served = {entry.name: self._fetch(entry) for entry in entries}
        self._tidy()

    @property
    def all(self) -> tuple[Served, ...]:
        """The models in service, in the order they were named."""
        with self._lock:
            return tuple(self._served.values())

    def get(self, name: str) -> Served:
        """One model.

        Raises:
            Refused: with 404 if none is served under that name.
        """
        with self._lock:
            found = self._served.get(name)
            names = tuple(self._served)
        if found is None:
            raise Refused(404, unknown("model", name[:80], names))
        return found

    def wanted(self) -> tuple[ModelInfo, ...]:
        """What workers are to have warm: the models in service, and those that come next."""
        with self._lock:
            return tuple(
                served.info for served in (*self._served.values(), *self._candidates.values())
            )

    def look(self) -> bool:
        """Look where the aliases point; True if a new version is to be warmed."""
        found = False
        for served in self.all:
            if not served.entry.moves:
                continue
            try:
                found |= self._look(served)
            except MedsegError as error:
                self._tell(served.entry.name, error)
        return found

    def switch(self, state: Callable[[ModelInfo], str | bool]) -> None:
        """Take candidates into service that are warm.

        Args:
            state: True if a model is warm in all workers, False if not yet, else why it cannot be.
        """
        with self._lock:
            candidates = dict(self._candidates)
        for name, candidate in candidates.items():
            found = state(candidate.info)
            if found is False:
                continue
            with self._lock:
                if self._candidates.get(name) is candidate:
                    del self._candidates[name]
            if isinstance(found, str):
                self._refuse(name, candidate.info.version, found)
                continue
            with self._lock:
                before, self._served[name] = self._served[name], candidate
            self._refused.pop(name, None)
            self._metrics.count("model_changes_total", model=name)
            self._audit.write(
                "model", outcome="in service", model=f"{name}@{candidate.info.version}",
                before=f"{name}@{before.info.version}", sha256=candidate.info.sha256,
            )  # fmt: skip
            logger.info(
                "%s: version %s takes the place of version %s.",
                name, candidate.info.version, before.info.version,
            )  # fmt: skip

    def _look(self, served: Served) -> bool:
        name, version = served.entry.name, self._version(served.entry)
        with self._lock:
            coming = self._candidates.get(name)
            now = served.info.version if coming is None else coming.info.version
            if version == now or self._refused.get(name) == version:
                return False
            if version == served.info.version:
                del self._candidates[name]  # the alias came back before it was taken
                return False
        try:
            candidate = self._fetch(served.entry, version)
        except ModelError as error:
            self._refuse(name, version, error.message)
            return False
        with self._lock:
            self._candidates[name] = candidate
        return True

    def _refuse(self, name: str, version: str, why: str) -> None:
        self._refused[name] = version
        self._audit.write("model", outcome="refused", model=f"{name}@{version}")
        logger.error("%s: version %s is not taken into service: %s", name, version, why)

    def _tell(self, name: str, error: MedsegError) -> None:
        if self._refused.get(f"{name} registry") != error.message:
            self._refused[f"{name} registry"] = error.message
            logger.warning("%s: what is in service stays: %s", name, error.message)

    def _version(self, entry: ServedEntry) -> str:
        from medseg_nca.tracking.store import connect, no_warnings, store_uri

        with no_warnings():
            client = connect(store_uri(self._tracking.uri))
            return str(find_version(client, entry.reference).version)

    def _fetch(self, entry: ServedEntry, version: str | None = None) -> Served:
        """Copy and check the files of a model; an alias is looked up first, and once."""
        match = VERSION.fullmatch(entry.reference)
        reference = entry.reference
        if match is not None:
            version = version or match["version"] or self._version(entry)
            reference = f"models:/{match['name']}/{version}"
        found = locate(reference, self._tracking)
        try:
            digests = _digests(found.folder)
            if not digests[WEIGHTS] or not digests[SPEC]:
                raise ModelError(f"{reference}: has no {WEIGHTS if digests[SPEC] else SPEC}.")
            key = hashlib.sha256((digests[WEIGHTS] + digests[SPEC]).encode()).hexdigest()[:16]
            folder = self._folder / key
            # A copy of an earlier server counts only if it is what the source is now.
            if not folder.is_dir() or _digests(folder) != digests:
                _copy(found.folder, folder)
            if _digests(folder) != digests:
                raise ModelError(f"{reference}: was changed while it was copied; start again.")
        finally:
            found.release()
        spec = read_spec(folder)
        if spec.weights_sha256 and spec.weights_sha256 != digests[WEIGHTS]:
            raise ModelError(f"{reference}: its weights are not those that {SPEC} names.")
        card = folder / CARD
        text = card.read_text(encoding="utf-8") if card.is_file() else ""
        sha256 = digests[WEIGHTS]
        info = ModelInfo(key, folder, entry.name, version or sha256[:12], sha256, digests[SPEC])
        return Served(entry, info, spec, text)

    def _tidy(self) -> None:
        """Remove the copies that an earlier server made and this one does not serve."""
        used = {served.info.folder.name for served in self._served.values()}
        for folder in self._folder.iterdir():
            if folder.name not in used:
                shutil.rmtree(folder, ignore_errors=True)


def _copy(source: Path, folder: Path) -> None:
    with atomic_folder(folder) as temporary:
        for name in (WEIGHTS, SPEC, CARD):
            if (source / name).is_file():
                shutil.copyfile(source / name, temporary / name)


def _digests(folder: Path) -> dict[str, str]:
    """SHA-256 of the files of a model by their names; "" for one that is missing."""
    return {name: file_sha256(folder / name) if (folder / name).is_file() else ""
            for name in (WEIGHTS, SPEC, CARD)}  # fmt: skip
