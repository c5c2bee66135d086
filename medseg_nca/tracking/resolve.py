"""Find the two data files of a model by any of its names, and load the model.

Only ``weights.safetensors`` and ``model.json`` of an entry in a registry are ever read, so an entry
cannot run code in our processes.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import url2pathname

import medseg_nca
from medseg_nca.config.engines import AUTO, ENGINES
from medseg_nca.config.training import TrackingSettings
from medseg_nca.errors import ModelError, OutputError
from medseg_nca.io.atomic import atomic_file
from medseg_nca.suggest import unknown
from medseg_nca.tracking.remembered import Answer, recall, remember, state_of
from medseg_nca.tracking.store import (
    connect,
    no_warnings,
    shown,
    sqlite_file,
    store_errors,
    store_uri,
)
from medseg_nca.tracking.temporary import new_folder, remove_folder

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

    from medseg_nca.inference.bundle import LoadedModel
    from medseg_nca.tasks.base import TrainedModel

WEIGHTS, SPEC, CARD = "weights.safetensors", "model.json", "card.md"
ZOO = "zoo:"
# Folders in which the two files may be, inside a run folder or the files of a run in a store.
LOCAL_PLACES = ("model", ".")
STORE_PLACES = ("artifacts", "")
VERSION = re.compile(r"models:/(?P<name>[^/@]+)(?:/(?P<version>\d+)|@(?P<alias>[\w\-]+))")
RUN = re.compile(r"runs:/(?P<run>[\w\-]+)/(?P<path>[\w\-./]+)")
HASH_TAGS = {WEIGHTS: "weights_sha256", SPEC: "model_json_sha256"}

FORMS = (
    "A model is named by a run folder (with model/model.json), a folder with weights.safetensors "
    "and model.json, zoo:NAME, models:/NAME/VERSION, models:/NAME@ALIAS or runs:/ID/model."
)


@dataclass(frozen=True)
class Located:
    """A model's files on this machine.

    Attributes:
        folder: folder that holds the two data files.
        reference: the name that was asked for.
        hashes: for a registered version, the sha256 tag of each file ("" if it has none).
        temporary: whether the folder was made for this process alone. :meth:`release` removes
            such a folder, or else the end of the process.
    """

    folder: Path
    reference: str
    hashes: Mapping[str, str] = field(default_factory=dict)
    temporary: bool = False

    def release(self) -> None:
        """Remove the folder if it is temporary."""
        if self.temporary:
            remove_folder(self.folder)


def load_model(
    reference: str,
    device: str = "auto",
    tracking: TrackingSettings | None = None,
    *,
    engine: str = AUTO,
) -> TrainedModel:
    """Load a model of any task by any of its names; files downloaded for it are removed again.

    Args:
        reference: a run folder, a folder with the two data files, ``zoo:NAME``,
            ``models:/NAME/VERSION``, ``models:/NAME@ALIAS`` or ``runs:/ID/model``.
        device: "auto", "cpu", "cuda" or "cuda:N".
        tracking: the store in which the last three forms are looked up.
        engine: who computes the automaton: the name of an engine; "auto" takes the fastest that
            can.

    Raises:
        ModelError: if there is no such model, or its files are missing, damaged or not those that
            were registered.
        ConfigError, DependencyError: if there is no such engine, or it cannot compute the model.
        TrackingError: if the store cannot be used.
    """
    from medseg_nca.tracking.task_files import load_folder

    ENGINES.check(engine)  # before a model is downloaded
    found = locate(reference, tracking)
    try:
        return load_folder(found.folder, device, engine)
    finally:
        found.release()


def load_segmentation(
    reference: str,
    device: str = "auto",
    tracking: TrackingSettings | None = None,
    *,
    engine: str = AUTO,
) -> LoadedModel:
    """Load a model of the task segmentation, as :func:`load_model` does.

    Raises:
        ModelError: as :func:`load_model` raises it, or if the model belongs to another task.
        ConfigError, DependencyError, TrackingError: as :func:`load_model` raises them.
    """
    from medseg_nca.inference.bundle import load_bundle

    ENGINES.check(engine)
    found = locate(reference, tracking)
    try:
        return load_bundle(found.folder, device, engine)
    finally:
        found.release()


def locate(reference: str, tracking: TrackingSettings | None = None) -> Located:
    """Find a model's files as :func:`find_files` does, and refuse files that were changed.

    Raises:
        ModelError, TrackingError: as :func:`load_model` raises them.
    """
    found = find_files(reference, tracking)
    try:
        check_hashes(found)
    except ModelError:
        found.release()
        raise
    return found


def find_files(reference: str, tracking: TrackingSettings | None = None) -> Located:
    """Find a model's files, downloading them if they are in a store.

    Downloaded files are kept until :meth:`Located.release`, or until the process ends.

    Raises:
        ModelError, TrackingError: as :func:`load_model` raises them, except for changed files.
    """
    if reference.startswith(ZOO):
        return Located(_zoo_folder(reference.removeprefix(ZOO)), reference)
    if reference.startswith(("models:", "runs:")):
        return _from_store(reference, tracking or TrackingSettings())
    return Located(_local_folder(Path(reference)), reference)


def check_hashes(found: Located) -> None:
    """Check that the files have the sha256 with which their version was registered.

    Raises:
        ModelError: if a file was changed, or the version has no sha256 of it.
    """
    if not found.hashes:
        return
    from medseg_nca.inference.bundle import file_sha256

    for name, expected in found.hashes.items():
        digest = file_sha256(found.folder / name)
        if not expected:
            raise ModelError(
                f"{found.reference}: has no tag {HASH_TAGS[name]!r}, so {name} cannot be trusted.",
                hint="Register the model with `medseg-nca models register`.",
            )
        if digest != expected:
            raise ModelError(
                f"{found.reference}: the sha256 of {name} is {digest[:12]}..., the registry says "
                f"{expected[:12]}....",
                hint="The stored file was changed; register the model again from its run.",
            )


def zoo_folder() -> Path:
    """Return the folder of the models that come with the package."""
    return Path(medseg_nca.__file__).resolve().parent / "zoo"


def zoo_names() -> tuple[str, ...]:
    """Return the names of the models that come with the package, sorted."""
    return tuple(sorted(path.parent.name for path in zoo_folder().glob(f"*/{SPEC}")))


def export_model(
    reference: str, to: Path, tracking: TrackingSettings | None = None, *, force: bool = False
) -> tuple[Path, ...]:
    """Copy a model's two data files, and its card if it has one, into a folder.

    Args:
        reference: a name of the model, as :func:`load_model` takes it.
        to: the folder, created if it does not exist.
        tracking: the store in which registered models are looked up.
        force: whether a model that is already in the folder is replaced.

    Returns:
        The files written.

    Raises:
        OutputError: if the folder holds a model already, or cannot be written.
        ModelError, TrackingError: as :func:`load_model` raises them.
    """
    from medseg_nca.tracking.task_files import read_folder

    if not force and any((to / name).exists() for name in (WEIGHTS, SPEC)):
        raise OutputError(
            f"{to}: already holds a model.", hint="Use --force to replace it, or another folder."
        )
    found = locate(reference, tracking)
    written = []
    try:
        read_folder(found.folder)
        for name in (WEIGHTS, SPEC, CARD):
            source = found.folder / name
            if source.is_file():
                with atomic_file(to / name) as path:
                    path.write_bytes(source.read_bytes())
                written.append(to / name)
    finally:
        found.release()
    return tuple(written)


def find_version(client: MlflowClient, reference: str) -> ModelVersion:
    """Look up ``models:/NAME/VERSION`` or ``models:/NAME@ALIAS``.

    Raises:
        ModelError: if the reference is malformed, or the registry holds no such version.
        TrackingError: if the registry cannot be used.
    """
    match = VERSION.fullmatch(reference)
    if match is None:
        raise ModelError(f"{reference!r} names no registered version.", hint=FORMS)
    from mlflow.exceptions import MlflowException

    try:
        if match["alias"]:
            return client.get_model_version_by_alias(match["name"], match["alias"])
        return client.get_model_version(match["name"], match["version"])
    except MlflowException as error:
        if error.error_code not in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
            with store_errors(f"{reference} cannot be looked up"):
                raise
        raise _no_version(client, reference, match["name"]) from error


def _no_version(client: MlflowClient, reference: str, name: str) -> ModelError:
    known = [model.name for model in client.search_registered_models()]
    where = f"in the registry {shown(str(client._registry_uri))}"
    if name not in known:
        if not known:
            text = f"{reference}: there are no models {where}."
            hint = "Register one with `medseg-nca models register RUN --name NAME`, or name the "
            return ModelError(text, hint=f"{hint}registry with --tracking-uri.")
        return ModelError(f"{reference}: {unknown('registered model', name, known)}")
    found = client.search_model_versions(f"name='{name}'")
    versions = ", ".join(str(number) for number in sorted(int(v.version) for v in found))
    aliases = ", ".join(client.get_registered_model(name).aliases) or "none"
    return ModelError(
        f"{reference}: there is no such version {where}.",
        hint=f"Versions of {name}: {versions or 'none'}; aliases: {aliases}.",
    )


def _zoo_folder(name: str) -> Path:
    names = zoo_names()
    if name not in names:
        if not names:
            raise ModelError(f"{ZOO}{name}: no models come with this package.", hint=FORMS)
        raise ModelError(unknown("zoo model", name, names), hint=FORMS)
    return zoo_folder() / name


def _local_folder(path: Path) -> Path:
    for place in LOCAL_PLACES:
        if (path / place / SPEC).is_file():
            return path / place
    if (path / "settings.yaml").is_file():
        raise ModelError(
            f"{path}: this run has no trained model yet.",
            hint="Finish it with `medseg-nca train ... --resume`.",
        )
    if path.is_dir():
        raise ModelError(f"{path}: holds no model ({SPEC} is missing).", hint=FORMS)
    if path.is_file():
        raise ModelError(f"{path}: is a file; a model is named by its folder.", hint=FORMS)
    guess = f" Did you mean {ZOO}{path}?" if str(path) in zoo_names() else ""
    raise ModelError(f"{path}: there is no such folder.{guess}", hint=FORMS)


def _from_store(reference: str, tracking: TrackingSettings) -> Located:
    run = RUN.fullmatch(reference)
    if run is None and VERSION.fullmatch(reference) is None:
        raise ModelError(f"{reference!r} is not a model's name.", hint=FORMS)
    uri = store_uri(tracking.uri)
    database = sqlite_file(uri)
    known = recall(database, reference) if database is not None and run is None else None
    if known is not None and _is_pair(Path(known.folder)):
        return Located(_copy(Path(known.folder)), reference, known.hashes, temporary=True)
    state = None if database is None else state_of(database)
    client = connect(uri)
    if run is not None:
        return Located(_download(client, reference, reference)[0], reference, temporary=True)
    version = find_version(client, reference)
    with store_errors(f"{reference} cannot be downloaded"):
        source = client.get_model_version_download_uri(version.name, version.version)
    folder, base = _download(client, source, reference)
    tags = {str(key): str(value) for key, value in version.tags.items()}
    hashes = {name: tags.get(tag, "") for name, tag in HASH_TAGS.items()}
    place = _local_place(client, base)
    if database is not None and place is not None and all(hashes.values()):
        remember(database, state, reference, Answer(str(place), hashes))
    return Located(folder, reference, hashes, temporary=True)


def _is_pair(folder: Path) -> bool:
    return all((folder / name).is_file() for name in HASH_TAGS)


def _copy(source: Path) -> Path:
    """Copy the two files into a folder of this process, as if they had been downloaded."""
    folder = new_folder()
    try:
        for name in HASH_TAGS:
            shutil.copyfile(source / name, folder / name)
    except OSError as error:
        raise ModelError(f"{error.filename}: cannot be read ({error.strerror}).") from error
    return folder


def _local_place(client: MlflowClient, base: str) -> Path | None:
    """Return the folder of the files of ``runs:/ID/path``, if it is on this machine."""
    match = RUN.fullmatch(base)
    if match is None:
        return None
    with store_errors(f"{base} cannot be found"):
        root = urlsplit(str(client.get_run(match["run"]).info.artifact_uri))
    if root.scheme != "file" or root.netloc:
        return None
    folder = Path(url2pathname(root.path)) / match["path"]
    return folder if _is_pair(folder) else None


def _download(client: MlflowClient, source: str, reference: str) -> tuple[Path, str]:
    """Download the two files from the URI ``source`` or below it, into a folder of this process.

    Returns:
        The folder, and the URI of the folder in which the files were found.
    """
    from mlflow.artifacts import list_artifacts

    uri = str(client.tracking_uri)
    with store_errors(f"{reference} cannot be downloaded"), no_warnings():
        for place in STORE_PLACES:
            base = f"{source}/{place}".rstrip("/")
            names = {
                Path(file.path).name for file in list_artifacts(artifact_uri=base, tracking_uri=uri)
            }
            if SPEC in names and WEIGHTS in names:
                return _fetch(base, uri), base
    raise ModelError(
        f"{reference}: has no {WEIGHTS} and {SPEC}.",
        hint="Only models registered by `medseg-nca models register` can be loaded here.",
    )


def _fetch(base: str, uri: str) -> Path:
    from mlflow.artifacts import download_artifacts

    folder = new_folder()
    for name in (WEIGHTS, SPEC):
        download_artifacts(artifact_uri=f"{base}/{name}", dst_path=str(folder), tracking_uri=uri)
    return folder
