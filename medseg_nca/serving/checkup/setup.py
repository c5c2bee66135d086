"""What the set-ups of a server and of a node have in common: packages and the settings file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

from medseg_nca.config.base import Settings
from medseg_nca.config.sources import Resolved, is_secret
from medseg_nca.errors import MedsegError
from medseg_nca.findings import DoctorFinding
from medseg_nca.serving.checkup.files import examine_mode
from medseg_nca.serving.packages import check_packages
from medseg_nca.tracking.store import shown

S = TypeVar("S", bound=Settings)


def examine_packages() -> Iterator[DoctorFinding]:
    """Find out whether the packages of the extra are installed."""
    try:
        check_packages()
    except MedsegError as error:
        yield DoctorFinding("packages", "serve", "problem", error.message, error.hint or "")
    else:
        yield DoctorFinding("packages", "serve", "ok", "installed")


def examine_settings_file(resolved: Resolved[S]) -> Iterator[DoctorFinding]:
    """A settings file that holds a secret is for the server alone."""
    file, fields = resolved.file, type(resolved.settings).model_fields
    if file is None:
        return
    values = resolved.settings.model_dump(mode="json")
    given = [key for key, origin in resolved.origins.items() if origin == str(file)]
    texts = {key: str(values[key]) for key in given}
    secret = [key for key in given if is_secret(fields[key]) or shown(texts[key]) != texts[key]]
    if secret:
        yield from examine_mode("settings", ", ".join(secret), file)
    else:
        yield DoctorFinding("settings", "file", "ok", f"{file}, without secrets")
