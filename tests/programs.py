"""Programs of dcmtk, and not those of the same names that pynetdicom puts into an environment."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path


def dcmtk_program(name: str) -> str | None:
    """The path of a program outside this virtual environment; None if it is not installed."""
    places = os.environ.get("PATH", os.defpath).split(os.pathsep)
    if sys.prefix != sys.base_prefix:
        places = [place for place in places if Path(place) != Path(sys.prefix, "bin")]
    return shutil.which(name, path=os.pathsep.join(places))
