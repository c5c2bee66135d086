"""What is asked of a node by another process: files in a folder of its spool."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from pathlib import Path

from medseg_nca.io.atomic import write_json
from medseg_nca.serving.jobs.records import is_id, new_id

logger = logging.getLogger(__name__)

FOLDER = "requests"
_SUFFIX = ".json"


def prepare(spool: Path) -> None:
    """Make the folder, so that it belongs to the node whoever asks something of it."""
    (spool / FOLDER).mkdir(parents=True, exist_ok=True, mode=0o700)


def ask_again(spool: Path, job: str | None) -> None:
    """Ask the node, the one at work or the next one, to try a job or a delivery again.

    Args:
        spool: of the node.
        job: its id; None for all that failed.

    Raises:
        OutputError: if nothing can be written there.
    """
    folder = spool / FOLDER
    folder.mkdir(mode=0o700, exist_ok=True)
    _give(folder, spool)
    path = folder / f"{new_id()}{_SUFFIX}"
    write_json(path, {"again": job})
    _give(path, spool)


def take_requests(spool: Path, again: Callable[[str | None], object]) -> None:
    """Do what was asked. A request is removed when it is done: a kill does it once more.

    Args:
        spool: of the node.
        again: is told the job, or None for all.
    """
    for path in sorted((spool / FOLDER).glob(f"*{_SUFFIX}")):
        try:
            tree = json.loads(path.read_text(encoding="utf-8"))
            job = tree["again"]
            if job is not None and not (isinstance(job, str) and is_id(job)):
                raise ValueError
        except (OSError, ValueError, KeyError, TypeError):
            logger.error("A request to the node cannot be read, and is passed over.")
        else:
            again(job)
        path.unlink(missing_ok=True)


def _give(path: Path, spool: Path) -> None:
    """Where root asks: let the user that the node runs as read and remove it."""
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        owner = spool.stat()
        os.chown(path, owner.st_uid, owner.st_gid)
