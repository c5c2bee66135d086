"""When an object is made that says why a job failed, so that a kill loses and doubles none."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from medseg_nca.serving.jobs.records import Failure, JobRecord

# Folder of a failed job; and that of its input, which is removed when the job ends.
NOTICE, _INPUT = "notice", "input"


class Notices(Protocol):
    """Makes objects of DICOM that say why jobs failed."""

    def make(self, job: JobRecord, failure: Failure, received: Path, folder: Path) -> str | None:
        """Make that of a job; made again for the same reason, it has the same UIDs.

        Args:
            job: that is about to fail.
            failure: why.
            received: folder of its input.
            folder: that appears with the object, whole or not at all.

        Returns:
            Name of the file in the folder; None where none can be made.

        Raises:
            OSError: if there is no room for it.
        """


def noticed(
    notices: Notices | None, job: JobRecord, failure: Failure, folder: Path
) -> dict[str, Any]:
    """Make the notice of a job where its options want one, while its input is still there.

    Args:
        notices: make it; None where this server makes none.
        job: that is about to fail.
        failure: why.
        folder: of the job.

    Returns:
        The result of the job: ``{"notice": {"file": NAME}}``, or empty where there is none.

    Raises:
        OSError: as :meth:`Notices.make`.
    """
    if notices is None or not job.options.notice:
        return {}
    file = notices.make(job, failure, folder / _INPUT, folder / NOTICE)
    return {"notice": {} if file is None else {"file": file}}
