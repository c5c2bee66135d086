"""All that ``medseg-nca doctor --serve`` looks at, but for the registry."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from medseg_nca.config.sources import Resolved
from medseg_nca.errors import MedsegError
from medseg_nca.findings import DoctorFinding
from medseg_nca.serving.catalogue import ServedEntry, parse_models
from medseg_nca.serving.checkup.access import examine_port, examine_users
from medseg_nca.serving.checkup.images import examine_studies, examine_viewer
from medseg_nca.serving.checkup.models import examine_models
from medseg_nca.serving.checkup.node import examine_network
from medseg_nca.serving.checkup.setup import examine_packages, examine_settings_file
from medseg_nca.serving.checkup.state import examine_clock, examine_state
from medseg_nca.serving.checkup.tls import examine_tls
from medseg_nca.serving.node.routes import entries_of
from medseg_nca.serving.node.settings import NodeSettings
from medseg_nca.serving.settings import ServeSettings


def examine_server(
    resolved: Resolved[ServeSettings], seconds: float, node: Resolved[NodeSettings] | None = None
) -> Iterator[DoctorFinding]:
    """Examine the set-up of a server without starting it; what is missing stops nothing.

    Args:
        resolved: settings of the server.
        seconds: that a model has to load and to compute a small image.
        node: settings of the DICOM node that runs in it; None without one.
    """
    settings = resolved.settings
    yield from examine_packages()
    yield from examine_settings_file(resolved)
    yield from _together(settings)
    yield from examine_users(settings)
    yield from examine_port(settings)
    renew = f"Renew {settings.tls_cert}; a running server takes the new one without a restart."
    yield from examine_tls(settings.tls_cert, settings.tls_key, settings.host, renew)
    yield from examine_state(settings)
    yield from examine_clock(settings.state)
    yield from examine_studies(settings)
    yield from examine_viewer(settings)
    if node is not None:
        yield from examine_settings_file(node)
        yield from examine_network(node.settings, settings.state)
    try:
        entries = models_of(settings, None if node is None else node.settings)
    except MedsegError as error:
        yield DoctorFinding("models", "names", "problem", error.message, error.hint or "")
        return
    if not entries:
        advice = "For example: --models zoo:hippocampus"
        yield DoctorFinding("models", "names", "problem", "no model is named", advice)
    yield from examine_models(entries, settings, seconds)


def models_of(settings: ServeSettings, node: NodeSettings | None) -> Sequence[ServedEntry]:
    """The models of a server, and of the rules of the node in it.

    Raises:
        ConfigError: if a name is none.
    """
    if node is None:
        return parse_models(settings.models)
    return entries_of(node.routes, settings.models)[0]


def _together(settings: ServeSettings) -> Iterator[DoctorFinding]:
    """Settings that exclude each other."""
    try:
        settings.check_together()
    except MedsegError as error:
        advice = error.hint or "`medseg-nca serve --help` lists what can be chosen."
        yield DoctorFinding("settings", "together", "problem", error.message, advice)
