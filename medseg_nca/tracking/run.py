"""Log one training to the tracking store.

Tracking never stops a training: at the first failure of the store, the tracker warns once and logs
nothing more. The results are in the run folder in any case.
"""

from __future__ import annotations

import json
import logging
import os
import re
import time
from collections.abc import Callable, Mapping
from itertools import islice
from numbers import Real
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

from medseg_nca.config import RunSettings
from medseg_nca.config.training import TrackingSettings
from medseg_nca.errors import Interrupted, StorePackageError, TrackingError
from medseg_nca.io.atomic import write_json
from medseg_nca.tracking.provenance import git_commit, package_versions
from medseg_nca.tracking.store import (
    connect,
    experiment_id,
    reason,
    shown,
    sqlite_file,
    store_uri,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient

logger = logging.getLogger(__name__)

Status = Literal["FINISHED", "FAILED", "KILLED"]

LINK = "mlflow.json"
# MLflow's limits: characters of a key, characters of a value, entries of one request.
KEY_LENGTH = 250
VALUE_LENGTH = 6000
BATCH = 100
NOT_IN_KEYS = re.compile(r"[^\w\-. /]")


class RunTracker:
    """Sends parameters, metrics and files of one run to MLflow.

    A tracker without a client does nothing, with the same interface.

    Args:
        client: client of the tracking store; None for a tracker that does nothing.
        run_id: MLflow's id of the run.
        folder: the run folder. A file in it gets the same relative path in the store.
        monitor: MLflow's running monitor of CPU, memory, disk and GPU; None without one.
    """

    def __init__(
        self,
        client: MlflowClient | None = None,
        run_id: str = "",
        folder: Path | None = None,
        monitor: Any = None,
    ) -> None:
        self._client = client
        self._monitor = monitor
        self.run_id = run_id
        self.folder = folder

    @property
    def active(self) -> bool:
        """Whether anything is still being logged."""
        return self._client is not None

    def log_metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        """Log numbers at a step; NaN is left out."""
        now = int(time.time() * 1000)

        def send(client: MlflowClient) -> None:
            from mlflow.entities import Metric

            metrics = [
                Metric(_key(name), float(value), now, step)
                for name, value in values.items()
                if isinstance(value, Real)
            ]
            client.log_batch(self.run_id, metrics=metrics)

        self._try(send)

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Log settings; nested keys become ``training.lr``, and long values are shortened."""

        def send(client: MlflowClient) -> None:
            from mlflow.entities import Param

            rest = iter([Param(key, text) for key, text in flatten(params).items()])
            while batch := list(islice(rest, BATCH)):
                client.log_batch(self.run_id, params=batch)

        self._try(send)

    def log_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags of the run."""

        def send(client: MlflowClient) -> None:
            from mlflow.entities import RunTag

            client.log_batch(self.run_id, tags=[RunTag(k, v) for k, v in tags.items()])

        self._try(send)

    def log_artifact(self, path: Path, folder: str | None = None) -> None:
        """Upload a file or a folder; a path that does not exist is left out.

        Args:
            path: the file or folder.
            folder: folder in the store; by default the same as in the run folder, so that
                ``figures/curves.png`` goes to ``figures``.
        """
        if not path.exists():
            return
        place = self._place(path) if folder is None else folder

        def send(client: MlflowClient) -> None:
            if path.is_dir():
                client.log_artifacts(self.run_id, str(path), f"{place}/{path.name}".lstrip("/"))
            else:
                client.log_artifact(self.run_id, str(path), place or None)

        self._try(send)

    def finish(self, status: Status = "FINISHED") -> None:
        """Close the run. Later logging is dropped, and a second call does nothing."""
        monitor, self._monitor = self._monitor, None
        if monitor is not None:
            self._try(lambda _: monitor.finish())
        self._try(lambda client: client.set_terminated(self.run_id, status))
        self._client = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        stopped = kind is not None and issubclass(kind, (KeyboardInterrupt, Interrupted))
        self.finish("FINISHED" if kind is None else "KILLED" if stopped else "FAILED")

    def _place(self, path: Path) -> str:
        """Return the folder in the store for a file of the run folder."""
        if self.folder is None or not path.absolute().is_relative_to(self.folder.absolute()):
            return ""
        parent = path.absolute().relative_to(self.folder.absolute()).parent.as_posix()
        return "" if parent == "." else parent

    def _try(self, send: Callable[[MlflowClient], Any]) -> None:
        if self._client is None:
            return
        try:
            send(self._client)
        except Exception as error:  # no error of a store may end the training
            self._client = None
            logger.warning("Tracking stopped, the run goes on without it: %s", reason(error))


def start_tracking(
    settings: RunSettings, folder: Path, *, dataset_hash: str = "", resume: bool = False
) -> RunTracker:
    """Begin the MLflow run of a run folder, or with ``resume`` go on with it.

    The run's id and store are kept in ``mlflow.json`` of the run folder. If the store does not
    answer, there is a warning and the run goes on without tracking. Of a distributed training, only
    the first process is tracked.

    Args:
        settings: settings of the run, logged as parameters.
        folder: the run folder.
        dataset_hash: hash of the data set, logged as a tag.
        resume: whether to go on with the run that ``mlflow.json`` names, if the store has it.

    Raises:
        TrackingError: if ``tracking.uri`` is not a tracking store at all.
        StorePackageError: if the store needs a package that is not installed.
    """
    if not settings.tracking.enabled or _is_worker():
        return RunTracker()
    uri = store_uri(settings.tracking.uri)
    link = read_link(folder) if resume else None
    # The link has no password; if the settings name the same store, their URI is used.
    if link is not None and link["tracking_uri"] != shown(uri):
        uri = linked_store(folder) or uri
    try:
        client = connect(uri, create=True)
        run_id = _existing(client, link) or _create(client, settings, dataset_hash)
        write_json(folder / LINK, {"run_id": run_id, "tracking_uri": shown(uri)})
        monitor = _monitor(settings.tracking, run_id, uri)
    except StorePackageError:
        raise  # the store could never answer, which is better known before hours of training
    except Exception as error:
        logger.warning("The run is not tracked: %s", reason(error))
        return RunTracker()
    logger.info("Tracked in %s as run %s.", shown(uri), run_id)
    return RunTracker(client, run_id, folder, monitor)


def read_link(folder: Path) -> dict[str, str] | None:
    """Return run id and store from a run folder; None if they are missing or unreadable."""
    try:
        tree = json.loads((folder / LINK).read_text(encoding="utf-8"))
        return {key: str(tree[key]) for key in ("run_id", "tracking_uri")}
    except (OSError, ValueError, KeyError, TypeError):
        return None


def linked_store(folder: Path) -> str | None:
    """Return the store that a run folder was tracked in; None if it has none or it is gone."""
    link = read_link(folder)
    if link is None:
        return None
    try:
        uri = store_uri(link["tracking_uri"])
    except TrackingError:
        return None
    file = sqlite_file(uri)
    return uri if file is None or file.is_file() else None


def store_with_credentials(folder: Path, uri: str | None = None) -> str | None:
    """Return the store of a run folder, with its password; None if it has none or it is gone.

    The link in the folder has no password. If the given URI, or that of the environment, names the
    same store, that URI is returned, which may have one.

    Raises:
        TrackingError: if the given or the environment's URI is no tracking store.
    """
    known = linked_store(folder)
    given = store_uri(uri)
    return given if known == shown(given) else known


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Return nested settings as ``{"training.lr": "0.001"}``, shortened to MLflow's limits."""
    flat: dict[str, str] = {}
    for key, value in tree.items():
        name = f"{prefix}.{key}" if prefix else str(key)
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, name)
        else:
            flat[_key(name)] = str(value)[:VALUE_LENGTH]
    return flat


def run_tags(dataset_hash: str) -> dict[str, str]:
    """Return the tags of a run that say from which code, packages and data it was made."""
    tags = {f"version.{name}": text for name, text in package_versions().items()}
    commit = git_commit()
    if commit:
        tags["mlflow.source.git.commit"] = commit.removesuffix("-dirty")
        tags["git.dirty"] = str(commit.endswith("-dirty")).lower()
    if dataset_hash:
        tags["dataset_hash"] = dataset_hash
    return {**tags, "mlflow.source.name": "medseg-nca", "mlflow.source.type": "LOCAL"}


def _create(client: MlflowClient, settings: RunSettings, dataset_hash: str) -> str:
    experiment = experiment_id(client, settings.tracking.experiment)
    tags = {**run_tags(dataset_hash), "model": settings.model.name, "task": settings.task}
    if settings.tracking.parent is not None:
        tags["mlflow.parentRunId"] = settings.tracking.parent
    run_id = str(client.create_run(experiment, run_name=settings.name, tags=tags).info.run_id)
    tracker = RunTracker(client, run_id)
    # The tracking settings do not change a run, and their URI may hold a password.
    tracker.log_params(settings.model_dump(mode="json", exclude={"tracking"}))
    if not tracker.active:
        raise TrackingError("the store does not take parameters.")
    return run_id


def _existing(client: MlflowClient, link: Mapping[str, str] | None) -> str | None:
    """Open the run of a link again and return its id; None if the store does not have it."""
    from mlflow.exceptions import MlflowException

    if link is None:
        return None
    try:
        client.update_run(link["run_id"], status="RUNNING")
    except MlflowException:
        logger.warning("MLflow run %s is gone; a new one is begun.", link["run_id"])
        return None
    return link["run_id"]


def _monitor(settings: TrackingSettings, run_id: str, uri: str) -> Any:
    """Start and return MLflow's system monitor; None if it is not wanted or cannot run."""
    if not settings.system_metrics:
        return None
    try:
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        create: Any = SystemMetricsMonitor
        monitor = create(run_id, resume_logging=True, tracking_uri=uri)
        monitor.start()
    except Exception as error:  # psutil may be missing, or a container may hide what it reads
        logger.info("No system metrics: %s", reason(error))
        return None
    return monitor


def _is_worker() -> bool:
    """Return whether this is a process of a distributed training other than the first."""
    ranks = (os.environ.get(name, "0") for name in ("RANK", "LOCAL_RANK"))
    return any(rank.isdecimal() and int(rank) > 0 for rank in ranks)


def _key(name: str) -> str:
    return NOT_IN_KEYS.sub("_", name)[:KEY_LENGTH]
