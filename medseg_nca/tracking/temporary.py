"""Temporary folders of this process, which are removed at its end at the latest."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path


def new_folder() -> Path:
    """Return a new folder, for this process alone."""
    folder = Path(tempfile.mkdtemp(prefix="medseg_nca_"))
    _folders().add(folder)
    return folder


def remove_folder(folder: Path) -> None:
    """Remove a folder that :func:`new_folder` returned."""
    shutil.rmtree(folder, ignore_errors=True)
    _folders().discard(folder)


@cache
def _folders() -> set[Path]:
    folders: set[Path] = set()

    def remove() -> None:
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(remove)
    return folders
