"""All that ``medseg-nca doctor --node`` looks at, but for the registry."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from medseg_nca.config.sources import Resolved
from medseg_nca.errors import MedsegError
from medseg_nca.findings import DoctorFinding
from medseg_nca.serving.checkup.callers import examine_callers, examine_node_port
from medseg_nca.serving.checkup.destinations import examine_destinations
from medseg_nca.serving.checkup.models import examine_models
from medseg_nca.serving.checkup.node_tls import examine_node_tls
from medseg_nca.serving.checkup.rules import examine_rules
from medseg_nca.serving.checkup.setup import examine_packages, examine_settings_file
from medseg_nca.serving.checkup.state import Room, examine_clock, examine_folder
from medseg_nca.serving.node.listing import DEAD_LETTERS
from medseg_nca.serving.node.routes import entries_of
from medseg_nca.serving.node.settings import NodeSettings
from medseg_nca.serving.security.listening import bind
from medseg_nca.serving.settings import GIGABYTE, MEGABYTE


def examine_node(resolved: Resolved[NodeSettings], seconds: float) -> Iterator[DoctorFinding]:
    """Examine the set-up of a node without starting it; what is missing stops nothing.

    Args:
        resolved: settings of the node.
        seconds: that a model has to load and to compute a small image.
    """
    settings = resolved.settings
    yield from examine_packages()
    yield from examine_settings_file(resolved)
    yield from examine_network(settings, settings.spool)
    yield from examine_clock(settings.spool)
    try:
        routes = settings.routes
    except MedsegError:  # the rules say so
        return
    try:
        entries, _ = entries_of(routes)
    except MedsegError as error:
        yield DoctorFinding("models", "names", "problem", error.message, error.hint or "")
        return
    yield from examine_models(entries, settings, seconds)


def examine_network(settings: NodeSettings, state: Path) -> Iterator[DoctorFinding]:
    """Examine all of a node but its models: callers, port, TLS, rules, spool and destinations.

    Args:
        settings: of the node.
        state: folder of its jobs; another one than its spool within a server.
    """
    yield from _together(settings)
    yield from examine_callers(settings)
    yield from examine_node_port(settings, state)
    if state == settings.spool:
        yield from _figures(settings)
    yield from examine_node_tls(settings)
    yield from examine_rules(settings)
    yield from examine_folder("spool", settings.spool, _room(settings))
    yield from _dead_letters(state)
    yield from examine_destinations(settings)


def _together(settings: NodeSettings) -> Iterator[DoctorFinding]:
    """Settings that exclude each other."""
    try:
        settings.check_together()
    except MedsegError as error:
        advice = error.hint or "`medseg-nca dicom-node --help` lists what can be chosen."
        yield DoctorFinding("settings", "together", "problem", error.message, advice)


def _figures(settings: NodeSettings) -> Iterator[DoctorFinding]:
    port = settings.metrics_port
    if port is None:
        return
    try:
        bind("127.0.0.1", port).close()
    except MedsegError:
        advice = "If that is not the node at work: choose another --metrics-port."
        text = f"127.0.0.1:{port} is taken"
        yield DoctorFinding("access", "figures", "note", text, advice)
    else:
        yield DoctorFinding("access", "figures", "ok", f"127.0.0.1:{port} is free")


def _room(settings: NodeSettings) -> Room:
    reserve, largest = int(settings.reserve_gb * GIGABYTE), int(settings.max_object * MEGABYTE)
    return Room(
        reserve, reserve + settings.limits.kept_bytes + largest,
        f"--reserve-gb {settings.reserve_gb:g} stay free, --keep-gb {settings.keep_gb:g} may be "
        "kept of results, and series for --keep days besides",
        "the node takes nothing when less than --reserve-gb is free",
        "keep less with --keep-gb and --keep",
    )  # fmt: skip


def _dead_letters(state: Path) -> Iterator[DoctorFinding]:
    count = sum(1 for _ in (state / DEAD_LETTERS).glob("*/*/reason.json"))
    if count:
        advice = (
            "`medseg-nca dicom-node list` has the reasons, `medseg-nca dicom-node retry --all` "
            "tries again."
        )
        text = f"{count} deliveries were given up"
        yield DoctorFinding("spool", "dead letters", "note", text, advice)
