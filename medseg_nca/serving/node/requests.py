"""What is asked of a node by another process: files in a folder of its spool."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path

from medseg_nca.io.atomic import write_json
from medseg_nca.serving.jobs.records import is_id, new_id

logger = logging.getLogger(__name__)

FOLDER = "requests"
_SUFFIX = ".json"


def ask_again(spool: Path, job: str | None) -> None:
    """Ask the node, the one at work or the next one, to try a job or a delivery again.

    Args:
        spool: of the node.
        job: its id; None for all that failed.

    Raises:
        OutputError: if nothing can be written there.
    """
    write_json(spool / FOLDER / f"{new_id()}{_SUFFIX}", {"again": job})


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
        except (ValueError, KeyError, TypeError):
            logger.error("A request to the node is not understood, and is passed over.")
        else:
            again(job)
        path.unlink(missing_ok=True)
