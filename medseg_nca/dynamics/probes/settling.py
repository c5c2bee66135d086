"""Where the state settles."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from medseg_nca.config.dynamics import DynamicsSettings
from medseg_nca.dynamics.probes.base import Probe, ProbeFindings, first_of, shown
from medseg_nca.dynamics.settling import KINDS, Criteria, Settled, SettlingVerdict, settle
from medseg_nca.dynamics.subject import Need, ProbedCase, Subject, Tree, mean_of
from medseg_nca.job import Job
from medseg_nca.viz.dynamics import plot_distances


class SettlingProbe(Probe):
    """See :func:`medseg_nca.dynamics.settle`."""

    name: ClassVar[str] = "settling"
    title: ClassVar[str] = "Where the state settles"
    about: ClassVar[str] = (
        "After the trained steps each level goes on without fire masks: every cell adds the fire "
        "rate times its change, so that a step is always the same map. The verdict is reached from "
        "the distances between the states of the second half of these steps."
    )
    needs: ClassVar[Need] = "states"
    order: ClassVar[int] = 30

    def run(self, subject: Subject, settings: DynamicsSettings, job: Job) -> ProbeFindings:
        """Implement :meth:`Probe.run`."""
        criteria = Criteria(still=settings.still, bound=settings.bound)
        rows: list[Tree] = []
        pictures: dict[str, Settled] = {}
        notes: list[str] = []
        for case in self.cases(subject, job):
            whole = case.for_states()
            notes += whole.notes
            for level, trained in enumerate(subject.steps):
                steps = max(round(trained * settings.watched), settings.least_watched)
                found = settle(whole.start(level), steps, criteria, seed=settings.seed, job=job)
                agreement = _agreement(whole, found) if level == len(subject.steps) - 1 else None
                rows += [
                    _row(case.id, level, sample, verdict, found, agreement)
                    for sample, verdict in enumerate(found.verdicts)
                ]
                pictures.setdefault(f"level {level + 1}", found)
        levels = [_summary(rows, level) for level in range(len(subject.steps))]
        return ProbeFindings(
            tree={"criteria": vars(criteria), "levels": levels, "notes": notes},
            rows=rows,
            columns=("level", *KINDS, "speed", "fluctuation"),
            table=[
                (str(row["level"]), *(str(row["verdicts"].get(kind, 0)) for kind in KINDS),
                 shown(row["speed"], ".2g"), shown(row["fluctuation"], ".2g"))
                for row in levels
            ],
            sentences=[*notes, *_sentences(levels, subject)],
            draw=lambda folder: _draw(pictures, folder),
        )  # fmt: skip


def _agreement(case: ProbedCase, found: Settled) -> float | None:
    if found.ends is None:
        return None
    first, last = (case.read(state) for state in found.ends)
    return first_of(case.agreement(first, last))


def _row(
    case: str,
    level: int,
    sample: int,
    verdict: SettlingVerdict,
    found: Settled,
    agreement: float | None,
) -> Tree:
    known = verdict.kind != "explosion" or verdict.spread < float("inf")
    return {
        "case": case,
        "sample": sample,
        "level": level + 1,
        "verdict": verdict.kind,
        "period": verdict.period,
        "window": found.window,
        "spread": verdict.spread if known else None,
        "speed": verdict.speed if known else None,
        "straightness": verdict.straightness if known else None,
        "fluctuation": found.fluctuation,
        "agreement": agreement,
    }


def _summary(rows: list[Tree], level: int) -> Tree:
    here = [row for row in rows if row["level"] == level + 1]
    counts = Counter(row["verdict"] for row in here)
    return {
        "level": level + 1,
        "window": here[0]["window"] if here else None,
        "verdicts": {kind: counts[kind] for kind in KINDS if counts[kind]},
        "periods": dict(Counter(str(row["period"]) for row in here if row["period"])),
        **{
            name: mean_of([row[name] for row in here])
            for name in ("spread", "speed", "straightness", "fluctuation", "agreement")
        },
    }


def _sentences(levels: list[Tree], subject: Subject) -> list[str]:
    sentences = []
    for row in levels:
        verdicts = ", ".join(f"{kind} {count}" for kind, count in row["verdicts"].items())
        sentences.append(f"Level {row['level']}, over {row['window']} steps: {verdicts}.")
        if row["periods"]:
            words = ", ".join(f"{p} steps ({n})" for p, n in row["periods"].items())
            sentences.append(f"Level {row['level']}: the cycles take {words}.")
    if levels and (agreement := levels[-1]["agreement"]) is not None:
        sentences.append(
            f"Between the first and the last state of that window the answers agree by "
            f"{subject.agreement.name} {agreement:.3f}."
        )
    return sentences


def _draw(pictures: Mapping[str, Settled], folder: Path) -> Mapping[Path, str]:
    maps = {name: found.distances for name, found in pictures.items() if found.distances.size}
    if not maps:
        return {}
    path = plot_distances(maps, folder / "settling.png")
    caption = (
        "The first case: how far each two states of the window are apart (dark is near). A fixed "
        "point is dark all over, a cycle has dark stripes, drift brightens away from the diagonal."
    )
    return {path: caption}


PROBE = SettlingProbe()
