"""What the probes share that change the image."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from medseg_nca.config.dynamics import DynamicsSettings
from medseg_nca.dynamics.changes import ImageChange
from medseg_nca.dynamics.equivariance import Answered, answer_changed
from medseg_nca.dynamics.probes.base import Probe, ProbeFindings, first_of, flat, shown
from medseg_nca.dynamics.subject import Averages, Need, Subject, Tree
from medseg_nca.io.volume import Volume
from medseg_nca.job import Job
from medseg_nca.viz.dynamics import plot_pairs

PLAIN = "as it is"


class ImageProbe(Probe):
    """Changes the image in some ways, and brings the answers back."""

    needs: ClassVar[Need] = "images"

    @abstractmethod
    def changes(self, image: Volume, settings: DynamicsSettings) -> Sequence[ImageChange]:
        """Return the changes of an image."""

    def run(self, subject: Subject, settings: DynamicsSettings, job: Job) -> ProbeFindings:
        """Implement :meth:`Probe.run`."""
        plain, found = Averages(), list[Answered]()
        rows: list[Mapping[str, object]] = []
        for case in self.cases(subject, job):
            assert case.image is not None, "the subject says that it has images"
            scores, answers = answer_changed(case, self.changes(case.image, settings), job)
            plain.add(scores)
            found += answers
            rows.append({"case": case.id, "change": PLAIN, **flat(scores)})
            rows += [
                {"case": case.id, "change": one.change, **flat(one.scores),
                 **flat(one.agreement, "agreement_"), **flat(one.limit, "limit_"),
                 "error": one.error or ""}
                for one in answers
            ]  # fmt: skip
        means = _means(found)
        failed = sorted({one.error for one in found if one.error})
        score, agree = subject.score.name, subject.agreement.name
        return ProbeFindings(
            tree={"plain": plain.mean(), "changes": means, "failed": failed},
            rows=rows,
            columns=("change", f"{score} against the truth", f"{agree} with the plain answer",
                     "limit by resampling"),
            table=[
                (PLAIN, shown(first_of(plain.mean())), "", ""),
                *((name, *(shown(first_of(row[key])) for key in ("score", "agreement", "limit")))
                  for name, row in means.items()),
            ],
            sentences=[*failed, *_sentences(plain.mean(), means, subject)],
            draw=lambda folder: self._draw(plain.mean(), means, subject, folder),
        )  # fmt: skip

    def _draw(
        self, plain: Mapping[str, float | None], means: Mapping[str, Tree], subject: Subject,
        folder: Path,
    ) -> Mapping[Path, str]:  # fmt: skip
        pairs = {
            name: (first_of(row["score"]), first_of(row["agreement"]))
            for name, row in means.items()
        }
        path = plot_pairs(
            pairs, folder / f"{self.name}.png",
            names=(f"{subject.score.name} against the truth",
                   f"{subject.agreement.name} with the plain answer"),
            mark=first_of(dict(plain)), marked=f"{subject.score.name}, {PLAIN}",
        )  # fmt: skip
        return {path: "Mean over the cases; answers brought back to the grid of the image."}


def _means(found: Sequence[Answered]) -> dict[str, Tree]:
    means = {}
    for name in dict.fromkeys(one.change for one in found):
        here = [one for one in found if one.change == name]
        means[name] = {
            "score": Averages([one.scores for one in here]).mean(),
            "agreement": Averages([one.agreement for one in here]).mean(),
            "limit": Averages([one.limit for one in here]).mean(),
            "failed": sum(one.error is not None for one in here),
        }
    return means


def _sentences(
    plain: Mapping[str, float | None], means: Mapping[str, Tree], subject: Subject
) -> list[str]:
    own = first_of(dict(plain))
    known = {name: v for name, row in means.items() if (v := first_of(row["score"])) is not None}
    if own is None or not known:
        return []
    pick = min if subject.score.better == "higher" else max
    worst = pick(known, key=lambda name: known[name])
    return [
        f"{subject.score.name} is {own:.3f} for the image as it is, and {known[worst]:.3f} where "
        f"it is worst: {worst}."
    ]
