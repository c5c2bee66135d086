"""The score against the number of steps."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from medseg_nca.config.dynamics import DynamicsSettings
from medseg_nca.dynamics.probes.base import Probe, ProbeFindings, first_of, flat, shown
from medseg_nca.dynamics.step_curve import ALL, StepCurve, metric_against_steps
from medseg_nca.dynamics.subject import Need, Subject
from medseg_nca.job import Job
from medseg_nca.viz.dynamics import plot_lines


class StepsProbe(Probe):
    """See :func:`medseg_nca.dynamics.metric_against_steps`."""

    name: ClassVar[str] = "steps"
    title: ClassVar[str] = "More and fewer steps"
    about: ClassVar[str] = (
        "The model takes a multiple of its trained steps, all levels alike, and its answer is "
        "compared with the truth. A model that keeps its answer has a flat curve beyond 1."
    )
    needs: ClassVar[Need] = "steps"
    order: ClassVar[int] = 10

    def run(self, subject: Subject, settings: DynamicsSettings, job: Job) -> ProbeFindings:
        """Implement :meth:`Probe.run`."""
        curve = metric_against_steps(
            subject, settings.factors, each_level=settings.each_level, job=job
        )
        means = {level: curve.means(level) for level in curve.levels}
        names = list(dict.fromkeys(n for row in means[ALL].values() for n in row))
        table = [
            (_words(level, factor), *(shown(row.get(name)) for name in names))
            for level, rows in means.items()
            for factor, row in rows.items()
        ]
        return ProbeFindings(
            tree={
                "trained_steps": list(subject.steps),
                "mean": {
                    level: [{"factor": factor, **row} for factor, row in rows.items()]
                    for level, rows in means.items()
                },
                "not_finite": sum(point.error is not None for point in curve.points),
            },
            rows=[
                {"case": p.case, "level": p.level, "factor": p.factor,
                 "steps": " ".join(map(str, p.steps)), **flat(p.scores), "error": p.error or ""}
                for p in curve.points
            ],
            columns=("steps", *names),
            table=table,
            sentences=_sentences(curve, subject),
            draw=lambda folder: _draw(curve, subject, folder),
        )  # fmt: skip


def _words(level: str, factor: float) -> str:
    return f"{factor:g}x" if level == ALL else f"level {level}: {factor:g}x"


def _sentences(curve: StepCurve, subject: Subject) -> list[str]:
    means = {factor: first_of(row) for factor, row in curve.means().items()}
    known = {factor: value for factor, value in means.items() if value is not None}
    found = []
    name = subject.score.name
    if known:
        pick = max if subject.score.better == "higher" else min
        best = pick(known, key=lambda factor: known[factor])
        found.append(f"{name} is best at {best:g}x the trained steps: {known[best]:.3f}.")
        last = max(known)
        if 1.0 in known and last > 1:
            change = known[last] - known[1.0]
            found.append(f"From 1x to {last:g}x, {name} changes by {change:+.3f}.")
    lost = sorted({p.factor for p in curve.points if p.error is not None})
    if lost:
        words = ", ".join(f"{factor:g}x" for factor in lost)
        found.append(f"In some cases the state is not finite any more at {words}.")
    return found


def _draw(curve: StepCurve, subject: Subject, folder: Path) -> Mapping[Path, str]:
    lines: dict[str, list[tuple[float, float | None]]] = {}
    for level in curve.levels:
        means = curve.means(level)
        for name in dict.fromkeys(n for row in means.values() for n in row):
            word = name if level == ALL else f"level {level} alone"
            # Of a level alone the first name only, or there are too many lines.
            lines.setdefault(word, [(factor, row.get(name)) for factor, row in means.items()])
    path = plot_lines(
        lines, folder / "steps.png", title="Score against steps", x="times the trained steps",
        y=subject.score.name, mark=1.0, logarithmic=True,
    )  # fmt: skip
    return {path: "Mean over the cases; the dashed line marks the trained steps."}


PROBE = StepsProbe()
