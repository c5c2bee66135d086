"""Checkpoints: written beside and renamed, the one before kept, only tensors and numbers.

``last.pt`` is the newest, ``previous.pt`` the one before it, ``best.pt`` the best validated one.
"""

from __future__ import annotations

import io
import logging
import os
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from medseg_nca.errors import CheckpointError
from medseg_nca.io.atomic import atomic_file

LAST, PREVIOUS, BEST = "last.pt", "previous.pt", "best.pt"
_VERSION = 1
_KEYS = {"model", "optimiser", "guard", "counters"}

logger = logging.getLogger(__name__)


def save_checkpoint(folder: Path, state: dict[str, Any], *, best: bool = False) -> None:
    """Write ``state`` as the newest checkpoint (or as the best one).

    Raises:
        OutputError: if it cannot be written; the checkpoints before it stay as they were.
    """
    name = BEST if best else LAST
    # Through memory: torch's own file writer hides a full disk behind a RuntimeError.
    buffer = io.BytesIO()
    torch.save({"version": _VERSION, **state}, buffer)
    with atomic_file(folder / name) as path:
        path.write_bytes(buffer.getbuffer())
        if not best and (folder / LAST).exists():
            os.replace(folder / LAST, folder / PREVIOUS)


def has_checkpoint(folder: Path) -> bool:
    """Whether a run has come as far as its first checkpoint."""
    return any((folder / name).exists() for name in (LAST, PREVIOUS))


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read one checkpoint; no code in it is run.

    Raises:
        CheckpointError: if it is missing, damaged or of another version.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: there is no such checkpoint.")
    try:
        # torch does not look at the checksums: a flipped bit would be loaded as a weight.
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file makes torch and pickle raise almost anything
        raise CheckpointError(f"{path}: is damaged or no checkpoint ({error}).") from error
    if damaged:
        raise CheckpointError(f"{path}: is damaged or no checkpoint (checksum of {damaged}).")
    version = state.get("version") if isinstance(state, dict) else None
    if version != _VERSION:
        raise CheckpointError(f"{path}: has version {version}, this package reads {_VERSION}.")
    missing = _KEYS - state.keys()
    if missing:
        raise CheckpointError(f"{path}: is damaged or no checkpoint (no {min(missing)!r}).")
    return state  # type: ignore[no-any-return]


def read_newest(folder: Path) -> dict[str, Any]:
    """Read the newest checkpoint of a run; a damaged one is passed over for the one before.

    Raises:
        CheckpointError: if there is none that can be read.
    """
    problems = []
    for name in (LAST, PREVIOUS):
        try:
            return read_checkpoint(folder / name)
        except CheckpointError as error:
            problems.append(str(error))
            if (folder / name).exists():
                logger.warning("%s Trying the checkpoint before it.", error)
    raise CheckpointError(
        " ".join(problems), hint="Start again without --resume, in a new or empty run folder."
    )


def read_good(folder: Path, tried: int | None) -> dict[str, Any]:
    """Read the newest checkpoint, or the one before if the newest is of iteration ``tried``.

    Args:
        folder: of the checkpoints.
        tried: iteration whose state led astray; None if none did.

    Raises:
        CheckpointError: if there is none that can be read.
    """
    state = read_newest(folder)
    if state["counters"]["iteration"] == tried:
        with suppress(CheckpointError):
            return read_checkpoint(folder / PREVIOUS)
    return state
