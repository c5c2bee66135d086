"""Examine this machine: what it offers, what is missing, and what to do about it.

Nothing is created or changed; a tracking store that does not exist yet is not made.
"""

from __future__ import annotations

import os
import platform
import shutil
import sqlite3
import sys
import tomllib
from collections.abc import Callable, Iterator
from contextlib import closing
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import medseg_nca
from medseg_nca.errors import StorePackageError, TrackingError
from medseg_nca.findings import DoctorFinding, Report
from medseg_nca.tracking.provenance import git_commit, package_version
from medseg_nca.tracking.resolve import zoo_names
from medseg_nca.tracking.store import shown, sqlite_file, store_uri

PYTHON = (3, 11)
GB = 1e9
# Below these there may be too little memory for a training with the presets, and too little disk
# for a tracking store with the figures of a few runs.
LOW_MEMORY_GB, LOW_DISK_GB = 4.0, 2.0
TIMEOUT_S = 5
# Extras that only those who work on the package itself need.
DEVELOPMENT = {"dev", "docs", "all"}


def examine(tracking_uri: str | None = None) -> Report:
    """Examine versions, devices, engine, memory, disk, tracking store, extras and models.

    Args:
        tracking_uri: URI of the tracking store to examine; None takes the store that the
            environment names, or else the default store.
    """
    parts: tuple[Callable[[], Iterator[DoctorFinding]], ...] = (
        _package, _python, _packages, _devices, _engine, _memory, _disk,
        lambda: examine_store(tracking_uri), _models,
    )  # fmt: skip
    return Report(tuple(finding for part in parts for finding in part()))


def _package() -> Iterator[DoctorFinding]:
    commit = git_commit()
    text = medseg_nca.__version__ + (f" (commit {commit[:12]})" if commit else "")
    yield DoctorFinding("package", "medseg-nca", "ok", text)


def _python() -> Iterator[DoctorFinding]:
    text = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    if sys.version_info < PYTHON:
        wanted = ".".join(map(str, PYTHON))
        yield DoctorFinding(
            "python", "Python", "problem", text, f"Install Python {wanted} or newer."
        )
    else:
        yield DoctorFinding("python", "Python", "ok", text)


def _requirements() -> list[str]:
    """Return this package's requirements with their markers.

    They come from the installed package, or else from ``pyproject.toml`` of the checkout.
    """
    try:
        return requires("medseg-nca") or []
    except PackageNotFoundError:
        file = Path(medseg_nca.__file__).resolve().parent.parent / "pyproject.toml"
    try:
        project = tomllib.loads(file.read_text(encoding="utf-8"))["project"]
    except (OSError, KeyError, tomllib.TOMLDecodeError):
        return []
    extras = project.get("optional-dependencies", {})
    return [
        *project.get("dependencies", []),
        *(f'{line}; extra == "{extra}"' for extra, lines in extras.items() for line in lines),
    ]


def _packages() -> Iterator[DoctorFinding]:
    """Yield a finding for each needed package, and one for each extra with what it lacks."""
    from packaging.requirements import Requirement

    missing: dict[str, list[str]] = {}
    for requirement in map(Requirement, _requirements()):
        marker, version = requirement.marker, package_version(requirement.name)
        extra = _extra_of(str(marker)) if marker else None
        if extra is not None:
            missing.setdefault(extra, [])
            if version is None:
                missing[extra].append(requirement.name)
        elif marker is None or marker.evaluate():
            yield _needed(requirement.name, str(requirement.specifier), version)
    for extra, names in sorted(missing.items()):
        if extra in DEVELOPMENT:
            continue
        if not names:
            yield DoctorFinding("extras", extra, "ok", "installed")
        else:
            advice = f"If you need it: pip install 'medseg-nca[{extra}]'."
            yield DoctorFinding("extras", extra, "note", f"missing: {', '.join(names)}", advice)


def _extra_of(marker: str) -> str | None:
    """Return the extra in a marker such as ``extra == "cluster"``; None if it has no extra."""
    _, found, after = marker.partition("extra == ")
    return after.strip("\"' )") if found else None


def _needed(name: str, specifier: str, version: str | None) -> DoctorFinding:
    from packaging.specifiers import SpecifierSet

    advice = f"pip install '{name}{specifier}'"
    if version is None:
        return DoctorFinding("packages", name, "problem", f"missing (needs {specifier})", advice)
    if not SpecifierSet(specifier).contains(version, prereleases=True):
        return DoctorFinding("packages", name, "problem", f"{version} (needs {specifier})", advice)
    return DoctorFinding("packages", name, "ok", version)


def _devices() -> Iterator[DoctorFinding]:
    try:
        import torch
    except (ImportError, OSError) as error:
        advice = "Install it as https://pytorch.org/get-started says."
        yield DoctorFinding("devices", "torch", "problem", f"cannot be imported: {error}", advice)
        return
    threads = torch.get_num_threads()
    capability = torch.backends.cpu.get_cpu_capability()
    text = f"{os.cpu_count()} cores, {threads} threads used by torch, {capability}"
    yield DoctorFinding("devices", "cpu", "ok", text)
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            card = torch.cuda.get_device_properties(index)
            bf16 = ", bfloat16" if torch.cuda.is_bf16_supported() else ""
            text = f"{card.name}, {card.total_memory / GB:.1f} GB{bf16}, CUDA {torch.version.cuda}"
            yield DoctorFinding("devices", f"cuda:{index}", "ok", text)
    elif shutil.which("nvidia-smi"):
        built = torch.version.cuda or "none"
        advice = "Install a torch build for your driver: https://pytorch.org/get-started."
        text = f"a driver is there, but torch (built for CUDA: {built}) sees no GPU"
        yield DoctorFinding("devices", "cuda", "note", text, advice)
    else:
        yield DoctorFinding("devices", "cuda", "ok", "no NVIDIA GPU; everything runs on the CPU")


def _engine() -> Iterator[DoctorFinding]:
    """Check that the compiled loops compute what the reference engine does, in two precisions."""
    try:
        import torch
    except (ImportError, OSError):  # the finding on devices says so already
        return
    from medseg_nca.nca.kernels import proof
    from medseg_nca.nca.kernels.library import library

    reasons = [
        proof.unusable(dtype, gradients)
        for dtype in (torch.float32, torch.float64)
        for gradients in (False, True)
    ]
    if reason := next(filter(None, reasons), None):
        advice = "Reinstall medseg-nca. Until then plain torch computes, several times as slowly."
        yield DoctorFinding("engine", "cpu", "problem", reason, advice)
    else:
        text = f"compiled for {library().variant}; it computes what the reference does"
        yield DoctorFinding("engine", "cpu", "ok", text)


def _memory() -> Iterator[DoctorFinding]:
    try:
        import psutil
    except ImportError:  # the findings on packages name it already
        return
    memory = psutil.virtual_memory()
    text = f"{memory.available / GB:.1f} of {memory.total / GB:.1f} GB free"
    if memory.available < LOW_MEMORY_GB * GB:
        advice = "Close other programs, or lower preprocess.memory_budget_gb and batch_size."
        yield DoctorFinding("memory", "RAM", "note", text, advice)
    else:
        yield DoctorFinding("memory", "RAM", "ok", text)


def _disk() -> Iterator[DoctorFinding]:
    folder = Path.cwd()
    free = shutil.disk_usage(folder).free / GB
    text = f"{free:.1f} GB free at {folder}"
    if not os.access(folder, os.W_OK):
        advice = "Work in a folder that you may write to."
        yield DoctorFinding("disk", "work folder", "note", f"{folder} cannot be written", advice)
    elif free < LOW_DISK_GB:
        yield DoctorFinding("disk", "work folder", "note", text, "Free some space.")
    else:
        yield DoctorFinding("disk", "work folder", "ok", text)


def examine_store(given: str | None) -> Iterator[DoctorFinding]:
    """Examine the tracking store, as :func:`examine` does."""
    try:
        uri = store_uri(given)
    except TrackingError as error:
        yield DoctorFinding("tracking", "store", "problem", error.message, error.hint or "")
        return
    file = sqlite_file(uri)
    if file is not None:
        yield _sqlite(file)
    elif uri.startswith(("http://", "https://")):
        yield _server(uri)
    else:
        yield _database(uri)


def _sqlite(file: Path) -> DoctorFinding:
    """Examine a SQLite store without creating, migrating or changing it."""
    folder = next(parent for parent in file.parents if parent.exists())
    if not os.access(folder, os.W_OK):
        advice = "Use a folder that you may write to, or name another --tracking-uri."
        return DoctorFinding("tracking", "store", "problem", f"{folder} cannot be written", advice)
    if not file.exists():
        return DoctorFinding("tracking", "store", "ok", f"{file} (made by the first run)")
    try:
        with closing(sqlite3.connect(f"{file.as_uri()}?mode=rw", uri=True, timeout=1)) as database:
            database.execute("BEGIN IMMEDIATE")
            runs = database.execute("SELECT COUNT(*) FROM runs").fetchone()[0]
            database.rollback()
    except sqlite3.Error as error:
        advice = "Is it an MLflow 3 store, and does another program hold it? Else name another."
        return DoctorFinding("tracking", "store", "problem", f"{file}: {error}", advice)
    return DoctorFinding("tracking", "store", "ok", f"{file}, {runs} runs, writable")


def _server(uri: str) -> DoctorFinding:
    """Ask an MLflow server whether it is well; whether it may be written is not tested."""
    import requests

    advice = "Start the server, mend --tracking-uri, or set the user name and password."
    name = shown(uri)
    try:
        health = requests.get(f"{uri.rstrip('/')}/health", timeout=TIMEOUT_S)
        version = requests.get(f"{uri.rstrip('/')}/version", timeout=TIMEOUT_S)
    except requests.RequestException as error:
        text = f"{name} does not answer ({type(error).__name__})"
        return DoctorFinding("tracking", "store", "problem", text, advice)
    if not health.ok:
        text = f"{name} answers {health.status_code}"
        return DoctorFinding("tracking", "store", "problem", text, advice)
    known = f", MLflow {version.text.strip()[:20]}" if version.ok else ""
    return DoctorFinding("tracking", "store", "ok", f"{name} answers{known}")


def _database(uri: str) -> DoctorFinding:
    from medseg_nca.tracking.store import connect

    try:
        connect(uri)
    except StorePackageError as error:
        text = f"missing for {shown(uri)}: {error.message}"
        return DoctorFinding("tracking", "store", "problem", text, error.hint or "")
    except TrackingError as error:
        return DoctorFinding("tracking", "store", "problem", error.message, error.hint or "")
    return DoctorFinding("tracking", "store", "ok", f"{shown(uri)} answers")


def _models() -> Iterator[DoctorFinding]:
    names = zoo_names()
    if names:
        text = ", ".join(f"zoo:{name}" for name in names)
        yield DoctorFinding("models", "in the package", "ok", text)
    else:
        yield DoctorFinding(
            "models", "in the package", "note", "none", "Train one: medseg-nca demo."
        )
