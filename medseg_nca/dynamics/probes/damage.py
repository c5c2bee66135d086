"""The answer to damage."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from medseg_nca.config.dynamics import DynamicsSettings
from medseg_nca.dynamics.damage import NONE, Recovery, damages, recover
from medseg_nca.dynamics.probes.base import Probe, ProbeFindings, first_of, flat, shown
from medseg_nca.dynamics.subject import Need, Subject, Tree, mean_of
from medseg_nca.errors import NonFiniteStateError
from medseg_nca.job import Job
from medseg_nca.nca.fire import mix
from medseg_nca.viz.dynamics import plot_panels

Curve = list[tuple[int, float | None, float | None]]


class DamageProbe(Probe):
    """See :func:`medseg_nca.dynamics.recover`."""

    name: ClassVar[str] = "damage"
    title: ClassVar[str] = "Answer to damage"
    about: ClassVar[str] = (
        "At the end of the roll-out the hidden channels of the last level are damaged: boxes are "
        "set to zero, or noise is added. Then the automaton takes further steps. Its answer is "
        "compared with the answer before the damage and with the truth; without damage, too, since "
        "more steps change an answer by themselves. Resilience is 1 - IoU at the end, 0 being an "
        "answer that came back."
    )
    needs: ClassVar[Need] = "states"
    order: ClassVar[int] = 40

    def run(self, subject: Subject, settings: DynamicsSettings, job: Job) -> ProbeFindings:
        """Implement :meth:`Probe.run`."""
        found: dict[str, list[Recovery]] = defaultdict(list)
        rows: list[Mapping[str, object]] = []
        notes: list[str] = []
        for number, case in enumerate(self.cases(subject, job)):
            whole = case.for_states()
            notes += whole.notes
            start = whole.start(len(subject.steps) - 1)
            try:
                state = start.go(start.steps)
            except NonFiniteStateError as error:
                notes.append(f"{case.id}: {error.message}")
                continue
            hurt = damages(
                whole, start, state, holes=settings.holes, deviations=settings.noise,
                seed=mix(settings.seed, number),
            )  # fmt: skip
            for recovery in recover(whole, start, hurt, settings.recovery, job):
                found[recovery.name].append(recovery)
                rows += [
                    {"case": case.id, "damage": recovery.name, "step": point.step,
                     **flat(point.agreement, "agreement_"), **flat(point.scores)}
                    for point in recovery.points
                ]  # fmt: skip
        dice = subject.agreement.name == "Dice"
        curves = {name: _curve(recoveries) for name, recoveries in found.items()}
        summary = {name: _summary(found[name], curves[name], dice=dice) for name in found}
        return ProbeFindings(
            tree={"steps": settings.recovery, "damage": summary, "notes": notes},
            rows=rows,
            columns=_columns(subject, settings, dice=dice),
            table=[_table_row(name, row, dice=dice) for name, row in summary.items()],
            sentences=[*notes, *_sentences(summary, subject)],
            draw=lambda folder: _draw(curves, subject, folder),
        )


def _curve(recoveries: Sequence[Recovery]) -> Curve:
    points = [point for one in recoveries for point in one.points]
    curve = []
    for step in sorted({point.step for point in points}):
        here = [point for point in points if point.step == step]
        agreement = mean_of([first_of(point.agreement) for point in here])
        curve.append((step, agreement, mean_of([first_of(point.scores) for point in here])))
    return curve


def _summary(recoveries: Sequence[Recovery], curve: Curve, *, dice: bool) -> Tree:
    tree: Tree = {
        "curve": [{"step": step, "agreement": a, "score": s} for step, a, s in curve],
    }
    if dice:
        tree["resilience"] = mean_of([recovery.resilience for recovery in recoveries])
    return tree


def _columns(subject: Subject, settings: DynamicsSettings, *, dice: bool) -> Sequence[str]:
    agree, score, last = subject.agreement.name, subject.score.name, settings.recovery
    columns = [
        "damage", f"{agree} with the undamaged answer, at once", f"after {last} steps",
        f"{score} against the truth, at once", f"after {last} steps",
    ]  # fmt: skip
    return [*columns, "resilience (1 - IoU)"] if dice else columns


def _table_row(name: str, row: Tree, *, dice: bool) -> Sequence[str]:
    first, last = (row["curve"][0], row["curve"][-1]) if row["curve"] else ({}, {})
    cells = [
        name,
        *(shown(end.get(key)) for key in ("agreement", "score") for end in (first, last)),
    ]
    return [*cells, shown(row["resilience"])] if dice else cells


def _sentences(summary: Mapping[str, Tree], subject: Subject) -> list[str]:
    if NONE not in summary or not summary[NONE]["curve"]:
        return []
    control = summary[NONE]["curve"][-1]["agreement"]
    found = []
    for name, row in summary.items():
        if name == NONE or not row["curve"]:
            continue
        first, last = (row["curve"][place]["agreement"] for place in (0, -1))
        if None in (first, last, control):
            continue
        found.append(
            f"{name.capitalize()}: {subject.agreement.name} with the undamaged answer goes from "
            f"{first:.3f} to {last:.3f}; without damage it is {control:.3f} after the same steps."
        )
    return found


def _draw(curves: Mapping[str, Curve], subject: Subject, folder: Path) -> Mapping[Path, str]:
    panels = {
        f"{subject.agreement.name} with the undamaged answer": {
            name: [(float(step), a) for step, a, _ in curve] for name, curve in curves.items()
        },
        f"{subject.score.name} against the truth": {
            name: [(float(step), s) for step, _, s in curve] for name, curve in curves.items()
        },
    }
    path = plot_panels(panels, folder / "damage.png", x="steps after the damage")
    return {path: "Mean over the cases."}


PROBE = DamageProbe()
