"""How much the answer depends on the fire seed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from medseg_nca.config.dynamics import DynamicsSettings
from medseg_nca.dynamics.probes.base import Probe, ProbeFindings, first_of, flat, shown
from medseg_nca.dynamics.seeds import SeedAnswers, compare_seeds
from medseg_nca.dynamics.subject import Averages, Need, ProbedCase, Subject, mean_of
from medseg_nca.errors import NonFiniteStateError
from medseg_nca.job import Job
from medseg_nca.viz.dynamics import plot_disagreement


@dataclass(frozen=True)
class _Seen:
    case: ProbedCase
    found: SeedAnswers


class SeedsProbe(Probe):
    """See :func:`medseg_nca.dynamics.compare_seeds`."""

    name: ClassVar[str] = "seeds"
    title: ClassVar[str] = "Fire seeds"
    about: ClassVar[str] = (
        "Every case is answered with several fire seeds, whose masks are drawn even where the "
        "model as it is used draws none, and every two answers are compared."
    )
    needs: ClassVar[Need] = "masks"
    order: ClassVar[int] = 80

    def run(self, subject: Subject, settings: DynamicsSettings, job: Job) -> ProbeFindings:
        """Implement :meth:`Probe.run`."""
        seeds = [settings.seed + number for number in range(settings.seeds)]
        pairs, scores, spreads = Averages(), Averages(), list[float | None]()
        rows: list[Mapping[str, object]] = []
        notes: list[str] = []
        worst: _Seen | None = None
        for case in self.cases(subject, job):
            try:
                found = compare_seeds(case, seeds, job.silent())
            except NonFiniteStateError as error:
                notes.append(f"{case.id}: {error.message}")
                continue
            firsts = [v for row in found.scores if (v := first_of(row)) is not None]
            spread = max(firsts) - min(firsts) if firsts else None
            pairs.add(found.pairs)
            spreads.append(spread)
            for row in found.scores:
                scores.add(row)
            rows.append({"case": case.id, **flat(found.pairs, "agreement_"),
                         "least_agreement": found.least, "score_range": spread,
                         **flat(Averages(list(found.scores)).mean())})  # fmt: skip
            if case.image is not None and _worse(found, worst, subject):
                worst = _Seen(case, found)
        return ProbeFindings(
            tree={
                "seeds": seeds,
                "agreement": pairs.mean(),
                "scores": scores.mean(),
                "score_range": mean_of(spreads),
                "notes": notes,
            },
            rows=rows,
            columns=("name", f"{subject.agreement.name} between seeds", subject.score.name),
            table=[
                (name, shown(pairs.mean().get(name)), shown(scores.mean().get(name)))
                for name in dict.fromkeys([*pairs.mean(), *scores.mean()])
            ],
            sentences=[*notes, *_sentences(pairs, spreads, subject)],
            draw=lambda folder: _draw(worst, folder),
        )


def _worse(found: SeedAnswers, worst: _Seen | None, subject: Subject) -> bool:
    if worst is None:
        return True
    mine, other = first_of(found.pairs), first_of(worst.found.pairs)
    if mine is None or other is None:
        return other is None
    return mine < other if subject.agreement.better == "higher" else mine > other


def _sentences(pairs: Averages, spreads: list[float | None], subject: Subject) -> list[str]:
    value, spread = first_of(pairs.mean()), mean_of(spreads)
    if value is None:
        return []
    words = f"Two seeds agree by {subject.agreement.name} {value:.3f} on average"
    if spread is not None:
        words += f"; {subject.score.name} of a case differs by {spread:.3f} between the best and "
        words += "the worst seed"
    return [f"{words}."]


def _draw(worst: _Seen | None, folder: Path) -> Mapping[Path, str]:
    if worst is None or worst.case.image is None:
        return {}
    path = plot_disagreement(
        worst.case.image.array[0], worst.found.disagreement, folder / "seeds.png",
        unit="standard deviation" if worst.case.smooth else "share of seeds that disagree",
    )  # fmt: skip
    caption = f"{worst.case.id}, whose answers differ most: where the seeds disagree."
    return {path: caption}


PROBE = SeedsProbe()
