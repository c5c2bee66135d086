"""All that ``medseg-nca doctor --serve`` looks at, but for the registry."""

from __future__ import annotations

from collections.abc import Iterator

from medseg_nca.config.sources import Resolved, is_secret
from medseg_nca.errors import MedsegError
from medseg_nca.findings import DoctorFinding
from medseg_nca.serving.checkup.access import examine_port, examine_users
from medseg_nca.serving.checkup.files import examine_mode
from medseg_nca.serving.checkup.images import examine_studies, examine_viewer
from medseg_nca.serving.checkup.models import examine_models
from medseg_nca.serving.checkup.state import examine_clock, examine_state
from medseg_nca.serving.checkup.tls import examine_tls
from medseg_nca.serving.packages import check_packages
from medseg_nca.serving.settings import ServeSettings
from medseg_nca.tracking.store import shown


def examine_server(resolved: Resolved[ServeSettings], seconds: float) -> Iterator[DoctorFinding]:
    """Examine the set-up of a server without starting it; what is missing stops nothing.

    Args:
        resolved: settings of the server.
        seconds: that a model has to load and to compute a small image.
    """
    settings = resolved.settings
    try:
        check_packages()
    except MedsegError as error:
        yield DoctorFinding("packages", "serve", "problem", error.message, error.hint or "")
    else:
        yield DoctorFinding("packages", "serve", "ok", "installed")
    yield from _settings_file(resolved)
    yield from _together(settings)
    yield from examine_users(settings)
    yield from examine_port(settings)
    yield from examine_tls(settings)
    yield from examine_state(settings)
    yield from examine_clock(settings)
    yield from examine_studies(settings)
    yield from examine_viewer(settings)
    yield from examine_models(settings, seconds)


def _together(settings: ServeSettings) -> Iterator[DoctorFinding]:
    """Settings that exclude each other."""
    try:
        settings.check_together()
    except MedsegError as error:
        advice = error.hint or "`medseg-nca serve --help` lists what can be chosen."
        yield DoctorFinding("settings", "together", "problem", error.message, advice)


def _settings_file(resolved: Resolved[ServeSettings]) -> Iterator[DoctorFinding]:
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
