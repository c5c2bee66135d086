"""Look at what a trained automaton does over time, and write one report."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medseg_nca import __version__
from medseg_nca.config.dynamics import DynamicsSettings
from medseg_nca.config.loading import validate, with_overrides
from medseg_nca.dynamics.probes import PROBES, Probe
from medseg_nca.dynamics.probes.base import ProbeFindings
from medseg_nca.dynamics.subject import Subject, SubjectRequest
from medseg_nca.errors import ConfigError
from medseg_nca.io.atomic import write_json, write_text
from medseg_nca.job import Job
from medseg_nca.pipelines.dynamics_report import write_dynamics_report
from medseg_nca.tasks import TASKS, Task

logger = logging.getLogger(__name__)

FORMAT_VERSION = 1
RESULTS = "dynamics.json"
# Of the settings of the probes, in --set.
_PREFIX = "dynamics."
Tree = dict[str, Any]


@dataclass(frozen=True)
class DynamicsRequest:
    """What is asked.

    Attributes:
        subject: which model is probed on which cases.
        out: folder of the results, created if it does not exist; other files in it stay.
        settings: of the probes.
        only: names of the probes; empty stands for all that the model can serve.
        fresh: whether probes that an earlier call finished are run again.
    """

    subject: SubjectRequest
    out: Path
    settings: DynamicsSettings = field(default_factory=DynamicsSettings)
    only: Sequence[str] = ()
    fresh: bool = False


def probe_settings(
    overrides: Sequence[str], given: Mapping[str, Any]
) -> tuple[DynamicsSettings, tuple[str, ...]]:
    """Return the settings of the probes, and the overrides that are not theirs.

    Args:
        overrides: as ``--set`` takes them; those of the probes begin with ``dynamics.``.
        given: values by the name of a field, which come before the overrides.

    Raises:
        ConfigError: for an unknown key, or a value that does not fit.
    """
    own = [text.removeprefix(_PREFIX) for text in overrides if text.startswith(_PREFIX)]
    tree = with_overrides(dict(given), own)
    others = tuple(text for text in overrides if not text.startswith(_PREFIX))
    return validate(DynamicsSettings, tree, source="dynamics"), others


def check_probes(names: Sequence[str]) -> None:
    """Refuse names that are no probes, before any work.

    Raises:
        ConfigError: for an unknown name, with the nearest known one.
    """
    for name in names:
        PROBES.check(name)


def open_subject(request: SubjectRequest) -> Subject:
    """Let the model's task offer the model and its cases to the probes.

    Raises:
        ConfigError: if the task offers nothing to probes, or a setting does not fit.
        DataError: if there are no such cases.
    """
    task: Task = TASKS.get(request.model.spec.task)
    return task.subject(request)


def run(request: DynamicsRequest, job: Job | None = None) -> Tree:
    """Run the probes, and write ``dynamics.json``, ``report.html``, figures and CSV tables.

    What a probe found is written when it has ended. The same request goes on after the last probe
    that ended; a probe runs again if the model, the data or the settings changed.

    Args:
        request: what is asked.
        job: gets the progress, in a phase for each probe.

    Returns:
        The tree of ``dynamics.json``.

    Raises:
        ConfigError: for an unknown probe, one that the model cannot serve, or a wrong setting.
        DataError: if there is no case, or a case cannot be used.
        OutputError: if a result cannot be written.
        Interrupted: if the job was cancelled; finished probes are kept.
    """
    job = job or Job()
    probes = _probes(request.only)
    subject = open_subject(request.subject)
    chosen, left_out = _served(probes, subject, named=bool(request.only))
    tree = _begun(request, subject, left_out)
    for probe in chosen:
        if probe.name in tree["probes"]:
            logger.info("%s: was finished before.", probe.name)
            continue
        findings = probe.run(subject, request.settings, job)
        tree["probes"][probe.name] = _kept(probe, findings, request.out)
        _write(tree, request.out)
    _write(tree, request.out)
    return tree


def _probes(only: Sequence[str]) -> list[Probe]:
    """Return the probes that are asked for, in the order of the report.

    Raises:
        ConfigError: for an unknown name, with the nearest known one.
    """
    if only:
        found = [PROBES.get(name) for name in dict.fromkeys(only)]
    else:
        found = [probe for _, probe in PROBES.usable()]
    return sorted(found, key=lambda probe: (probe.order, probe.name))


def _served(
    probes: Sequence[Probe], subject: Subject, *, named: bool
) -> tuple[list[Probe], dict[str, str]]:
    """Return the probes that the subject can serve, and the reason of each other.

    Raises:
        ConfigError: if a probe was asked for by name that it cannot serve.
    """
    left_out = {
        probe.name: subject.missing[probe.needs]
        for probe in probes
        if probe.needs in subject.missing
    }
    if left_out and named:
        name, reason = next(iter(left_out.items()))
        raise ConfigError(
            f"--only {name}: {reason}", hint="Leave it out of --only; the other probes work."
        )
    return [probe for probe in probes if probe.name not in left_out], left_out


def _begun(request: DynamicsRequest, subject: Subject, left_out: Mapping[str, str]) -> Tree:
    """Return the results so far: those of an earlier call of the same request, or none."""
    spec = request.subject.model.spec
    tree: Tree = {
        "format_version": FORMAT_VERSION,
        "package_version": __version__,
        "task": spec.task,
        "model": {
            "name": spec.name,
            "architecture": spec.model.name,
            "weights_sha256": spec.weights_sha256,
            "trained_steps": list(subject.steps),
            "engine": request.subject.model.engine_used(),
        },
        **subject.facts,
        "score": vars(subject.score),
        "agreement": vars(subject.agreement),
        "cases": list(subject.cases),
        "settings": request.settings.model_dump(mode="json"),
    }
    key = hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()
    earlier = {} if request.fresh else _earlier(request.out, key)
    return {**tree, "key": key, "left_out": dict(left_out), "probes": earlier}


def _earlier(out: Path, key: str) -> Tree:
    try:
        tree = json.loads((out / RESULTS).read_text("utf-8"))
        return dict(tree["probes"]) if tree["key"] == key else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _kept(probe: Probe, findings: ProbeFindings, out: Path) -> Tree:
    """Write the table and the figures of a probe, and return its part of the results."""
    table = out / f"{probe.name}.csv"
    write_text(table, _csv(findings.rows))
    figures = findings.draw(out / "figures")
    return {
        "title": probe.title,
        "about": probe.about,
        "order": probe.order,
        "sentences": list(findings.sentences),
        "columns": list(findings.columns),
        "table": [list(row) for row in findings.table],
        "csv": table.name,
        "figures": {str(path.relative_to(out)): text for path, text in figures.items()},
        "found": findings.tree,
    }


def _csv(rows: Sequence[Mapping[str, object]]) -> str:
    stream = io.StringIO()
    names = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(stream, names, lineterminator="\n", restval="")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


def _write(tree: Tree, out: Path) -> None:
    """Write the report, and then ``dynamics.json``: where it says so, all else is there."""
    write_dynamics_report(tree, out)
    write_json(out / RESULTS, tree)
