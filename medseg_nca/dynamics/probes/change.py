"""How much the state changes in every step."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from medseg_nca.config.dynamics import DynamicsSettings
from medseg_nca.dynamics.probes.base import Probe, ProbeFindings, shown
from medseg_nca.dynamics.subject import Need, Subject, Tree, mean_of
from medseg_nca.dynamics.trajectory import Motion, Trajectory, watch
from medseg_nca.job import Job
from medseg_nca.viz.dynamics import plot_panels

FIELDS = {
    "change": "RMS of the change",
    "moved": "cells that moved",
    "overflow": "values beyond the bound",
    "largest": "largest value",
}


class ChangeProbe(Probe):
    """See :func:`medseg_nca.dynamics.watch`."""

    name: ClassVar[str] = "change"
    title: ClassVar[str] = "Size of the change in every step"
    about: ClassVar[str] = (
        "Each level runs on beyond its trained steps, the levels before it as trained. Of the "
        "hidden channels: the root mean square of the change, the share of cells that moved by "
        "more than the tolerance, the share of values beyond the bound, and the largest value. "
        "With a fire mask only the cells that fire can move in a step."
    )
    needs: ClassVar[Need] = "states"
    order: ClassVar[int] = 20

    def run(self, subject: Subject, settings: DynamicsSettings, job: Job) -> ProbeFindings:
        """Implement :meth:`Probe.run`."""
        found: dict[int, list[Trajectory]] = defaultdict(list)
        rows: list[Mapping[str, object]] = []
        notes: list[str] = []
        for case in self.cases(subject, job):
            whole = case.for_states()
            notes += whole.notes
            for level, trained in enumerate(subject.steps):
                start = whole.start(level)
                steps = max(round(trained * settings.watched), trained)
                seen = watch(
                    start, steps, tolerance=settings.tolerance, bound=settings.bound, job=job
                )
                found[level].append(seen)
                rows += [_row(case.id, level, motion) for motion in seen.motions]
        curves = {level: _means(seen) for level, seen in found.items()}
        looks = {level: _looks(curve, subject.steps[level]) for level, curve in curves.items()}
        return ProbeFindings(
            tree={
                "tolerance": settings.tolerance,
                "bound": settings.bound,
                "levels": [
                    {"level": level + 1, "trained_steps": subject.steps[level],
                     "not_finite": sum(s.failed is not None for s in found[level]),
                     "steps": curves[level]}
                    for level in curves
                ],
                "notes": notes,
            },
            rows=rows,
            columns=("level and step", *FIELDS.values()),
            table=[
                (f"level {level + 1}, step {row['step']}",
                 *(shown(row[name], ".4f" if name == "change" else ".3f") for name in FIELDS))
                for level, picked in looks.items()
                for row in picked
            ],
            sentences=[*notes, *_sentences(found, curves, subject)],
            draw=lambda folder: _draw(curves, subject.steps, folder),
        )  # fmt: skip


def _row(case: str, level: int, motion: Motion) -> Mapping[str, object]:
    values = {name: _plain(getattr(motion, name)) for name in ("size", *FIELDS)}
    return {"case": case, "level": level + 1, "step": motion.step, **values}


def _means(seen: Sequence[Trajectory]) -> list[Tree]:
    """Return the mean over the cases of every step; infinite values count as none."""
    longest = max((len(one.motions) for one in seen), default=0)
    rows = []
    for step in range(longest):
        here = [one.motions[step] for one in seen if step < len(one.motions)]
        values = {n: mean_of([_plain(getattr(m, n)) for m in here]) for n in ("size", *FIELDS)}
        rows.append({"step": step + 1, **values})
    return rows


def _plain(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _looks(curve: Sequence[Tree], trained: int) -> list[Tree]:
    wanted = {1, trained, 2 * trained, 4 * trained, len(curve)}
    return [row for row in curve if row["step"] in wanted]


def _sentences(
    found: Mapping[int, Sequence[Trajectory]], curves: Mapping[int, list[Tree]], subject: Subject
) -> list[str]:
    sentences = []
    for level, curve in curves.items():
        failed = sum(one.failed is not None for one in found[level])
        if failed:
            sentences.append(f"Level {level + 1}: in {failed} cases a value is not finite.")
        trained, last = curve[subject.steps[level] - 1], curve[-1]
        before, after = trained["change"], last["change"]
        if before and after is not None:
            sentences.append(
                f"Level {level + 1}: at step {last['step']} the state changes by "
                f"{after / before:.2g} times as much as at its last trained step."
            )
    return sentences


def _draw(
    curves: Mapping[int, list[Tree]], trained: Sequence[int], folder: Path
) -> Mapping[Path, str]:
    panels = {
        title: {
            f"level {level + 1}": [(row["step"] / trained[level], row[name]) for row in curve]
            for level, curve in curves.items()
        }
        for name, title in FIELDS.items()
    }
    path = plot_panels(panels, folder / "change.png", x="steps / trained steps", mark=1.0)
    return {path: "Mean over the cases, step by step; the dashed line marks the trained steps."}


PROBE = ChangeProbe()
