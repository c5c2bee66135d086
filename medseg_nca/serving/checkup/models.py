"""Whether the models are found, are what was registered, and compute."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from medseg_nca.config.training import TrackingSettings
from medseg_nca.cores import cores
from medseg_nca.errors import MedsegError
from medseg_nca.findings import DoctorFinding
from medseg_nca.serving.audit import AuditLog
from medseg_nca.serving.catalogue import Catalogue, Served, ServedEntry
from medseg_nca.serving.metrics import Metrics
from medseg_nca.serving.settings import WorkSettings
from medseg_nca.serving.workers.process import WorkerProcess
from medseg_nca.tracking.resolve import VERSION


def needs_registry(entries: Iterable[ServedEntry]) -> bool:
    """Whether a model is named that the registry has."""
    return any(VERSION.fullmatch(entry.reference) for entry in entries)


def examine_models(
    entries: Sequence[ServedEntry], settings: WorkSettings, seconds: float
) -> Iterator[DoctorFinding]:
    """Fetch and check each model as a server does, and have a worker compute a small image.

    Args:
        entries: the models, by their names.
        settings: of what computes with them: devices, workers, engine and registry.
        seconds: that a worker has for each model on each device.
    """
    with tempfile.TemporaryDirectory(prefix="medseg-doctor-") as name:
        found: list[Served] = []
        for number, entry in enumerate(entries):
            finding, served = _fetched(entry, Path(name) / str(number), settings.tracking_uri)
            found += [] if served is None else [served]
            yield finding
        for device in settings.device if found else ():
            yield from _computed(found, device, seconds, settings)


def _fetched(
    entry: ServedEntry, folder: Path, tracking_uri: str | None
) -> tuple[DoctorFinding, Served | None]:
    folder.mkdir()
    tracking = TrackingSettings(uri=tracking_uri)
    try:
        catalogue = Catalogue((entry,), folder / "models", tracking, AuditLog(folder), Metrics())
    except MedsegError as error:
        return DoctorFinding("models", entry.name, "problem", error.message, error.hint or ""), None
    served = catalogue.get(entry.name)
    text = f"{entry.reference}, version {served.info.version}, sha256 {served.info.sha256[:12]}"
    return DoctorFinding("models", entry.name, "ok", text), served


def _computed(
    models: list[Served], device: str, seconds: float, settings: WorkSettings
) -> Iterator[DoctorFinding]:
    """Have one worker process load all models and compute with each, as the server's do."""
    changed = threading.Event()
    threads = max(1, cores() // (len(settings.device) * settings.workers))
    worker = WorkerProcess(
        device, threads, len(models), changed.set, lambda _: None, settings.engine
    )
    try:
        for served in models:
            begun = time.monotonic()
            worker.load(served.info)
            key = served.info.key
            while worker.alive and not worker.has(key) and worker.problem(key) is None:
                left = begun + seconds - time.monotonic()
                changed.clear()
                if left <= 0:
                    break
                changed.wait(min(left, 0.2))
            took = time.monotonic() - begun
            yield _verdict(f"{served.entry.name} on {device}", worker, key, took)
            if not worker.alive:
                return
    finally:
        worker.kill()


def _verdict(name: str, worker: WorkerProcess, key: str, took: float) -> DoctorFinding:
    if worker.has(key):
        text = f"loaded, and computed a small image, after {took:.1f} s"
        return DoctorFinding("models", name, "ok", text)
    problem = worker.problem(key)
    if problem is not None:
        advice = "Mend the model or --device; `medseg-nca models verify` looks closer."
        return DoctorFinding("models", name, "problem", problem, advice)
    if not worker.alive:
        advice = "Perhaps the memory did not suffice; serve fewer models, or on another --device."
        return DoctorFinding("models", name, "problem", "the worker process died", advice)
    advice = "Look at the load of this machine, or allow more with --within."
    text = f"did not compute a small image within {took:.0f} s"
    return DoctorFinding("models", name, "problem", text, advice)
