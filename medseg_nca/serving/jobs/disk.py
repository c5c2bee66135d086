"""What the job store needs of the disk: bytes that stay, sizes, and a lock on the folder."""

from __future__ import annotations

import os
from pathlib import Path

from medseg_nca.errors import ConfigError

# Of a folder of jobs: the file whose lock the process at work holds.
LOCK = "lock"


def to_disk(*paths: Path) -> None:
    """Wait until files and lists of folders are on the disk, so that power may be lost after it."""
    for path in paths:
        if path.is_dir() and os.name == "nt":  # Windows opens no folder
            continue
        handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def size_of(folder: Path) -> int:
    """Bytes of all files in a folder and below."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def only_one(path: Path, setting: str = "--state") -> int:
    """Hold a lock on a file as long as this process lives.

    Args:
        path: of the file; made where it is missing.
        setting: that names its folder.

    Raises:
        ConfigError: if another process holds it.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        import fcntl
    except ImportError:  # Windows has no such locks; there the folder is the caller's care
        return handle
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(handle)
        raise ConfigError(
            f"{setting} {path.parent}: another server or node uses this folder.",
            hint="Stop it, or give each a folder of its own.",
        ) from error
    return handle


def is_held(path: Path) -> bool:
    """Whether a process holds the lock of :func:`only_one` on a file; nothing is made or kept."""
    try:
        import fcntl

        handle = os.open(path, os.O_RDONLY)
    except (ImportError, OSError):
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(handle)
    return False
