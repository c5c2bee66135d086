"""Who may read the files of a server."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from medseg_nca.findings import DoctorFinding


def examine_mode(area: str, name: str, path: Path) -> Iterator[DoctorFinding]:
    """Examine the permissions of a file that holds secrets, or of a folder with images.

    Args:
        area: of the findings.
        name: what the file is.
        path: of the file or folder; a missing one has no finding.
    """
    try:
        state = path.stat()
    except OSError:
        return
    if os.name == "nt":  # Windows has rules of another kind
        return
    mode, right = stat.S_IMODE(state.st_mode), "700" if path.is_dir() else "600"
    advice = f"chmod {right} {path}"
    text = f"{path} has mode {mode:04o}"
    if mode & 0o007:
        yield DoctorFinding(area, name, "problem", f"{text}: everybody here gets at it", advice)
    elif mode & 0o070:
        yield DoctorFinding(area, name, "note", f"{text}: its group gets at it", advice)
    elif not os.access(path, os.R_OK):
        owner = f"chown it to the user of the server, who is {os.geteuid()} here"
        yield DoctorFinding(area, name, "problem", f"{path} cannot be read", owner)
    else:
        yield DoctorFinding(area, name, "ok", text)
