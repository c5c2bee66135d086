"""Results that could not be delivered, in a folder where a person finds them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from medseg_nca.io.atomic import atomic_folder, remove_leftovers, write_json
from medseg_nca.serving.jobs.disk import to_disk

REASON = "reason.json"


class DeadLetters:
    """``FOLDER/<job>/<destination>/`` has the objects of a delivery and ``reason.json``.

    They are hard links of the results of their job where the disk allows it, take no room of their
    own then, and are removed with the job.

    Args:
        folder: of all of them; made when there is one.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def place(self, job_id: str, destination: str) -> Path:
        """Folder of a delivery, whether it is there or not."""
        name = quote(destination, safe="@:[]")
        # Characters of a setting, never of a client; a name of dots alone is another folder.
        return self.folder / job_id / (name if name.strip(".") else f"%{name}")

    def write(
        self, job_id: str, destination: str, files: Sequence[Path], reason: dict[str, Any]
    ) -> None:
        """Leave the objects of a delivery that was given up, whole or not at all.

        Args:
            job_id: of the job.
            destination: that did not take them.
            files: the objects; one that is gone is left out.
            reason: what is known, without anything that names a patient.

        Raises:
            OutputError: if it cannot be written.
        """
        place = self.place(job_id, destination)
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with atomic_folder(place) as folder:
            for file in files:
                if file.exists():
                    _link(file, folder / file.name)
            write_json(folder / REASON, reason)
            to_disk(*folder.iterdir(), folder)
        to_disk(place.parent, self.folder)

    def remove(self, job_id: str, destination: str | None = None) -> None:
        """Remove that of a delivery, or all of a job; nothing happens where there is none."""
        job = self.folder / job_id
        if destination is None:
            shutil.rmtree(job, ignore_errors=True)
            return
        place = self.place(job_id, destination)
        if place.exists():
            shutil.rmtree(place, ignore_errors=True)
            if not any(job.iterdir()):
                shutil.rmtree(job, ignore_errors=True)

    def keep(self, jobs: Iterable[str]) -> None:
        """Remove those of all other jobs, and what a killed server left half-written."""
        known = set(jobs)
        for folder in self.folder.glob("*"):
            if folder.name in known:
                remove_leftovers(folder)
            else:
                shutil.rmtree(folder, ignore_errors=True)


def _link(file: Path, target: Path) -> None:
    try:
        os.link(file, target)
    except OSError:  # another disk, or one that knows no links
        shutil.copyfile(file, target)
