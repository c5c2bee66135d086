"""Checkpoints: the state of a training, in files of tensors and plain values.

``last.pt`` is the newest checkpoint, ``previous.pt`` the one before it, and ``best.pt`` the one
with the best validation. A checkpoint is written to a temporary file, which then gets its name.
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
    """Write ``state`` as the newest checkpoint, or with ``best`` as the best one.

    Raises:
        OutputError: if it cannot be written; the earlier checkpoints stay as they were.
    """
    name = BEST if best else LAST
    # The bytes are made in memory, because torch's own file writer reports a full disk as a
    # RuntimeError.
    buffer = io.BytesIO()
    torch.save({"version": _VERSION, **state}, buffer)
    with atomic_file(folder / name) as path:
        path.write_bytes(buffer.getbuffer())
        if not best and (folder / LAST).exists():
            os.replace(folder / LAST, folder / PREVIOUS)


def has_checkpoint(folder: Path) -> bool:
    """Return whether a run has written a checkpoint."""
    return any((folder / name).exists() for name in (LAST, PREVIOUS))


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read one checkpoint, without running any code in the file.

    Raises:
        CheckpointError: if it is missing, damaged or of another version.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: there is no such checkpoint.")
    try:
        # torch does not check the checksums, and would load a damaged bit as a weight.
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
    """Read the newest checkpoint of a run; if it is damaged, the one before it is read.

    Raises:
        CheckpointError: if no checkpoint can be read.
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
    """Read the checkpoint to go back to after a divergence.

    It is the newest one, or the one before if the newest is that of iteration ``tried``.

    Args:
        folder: folder of the checkpoints.
        tried: iteration of a checkpoint from which the training diverged again; None if there is
            none.

    Raises:
        CheckpointError: if no checkpoint can be read.
    """
    state = read_newest(folder)
    if state["counters"]["iteration"] == tried:
        with suppress(CheckpointError):
            return read_checkpoint(folder / PREVIOUS)
    return state
