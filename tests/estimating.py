"""Estimates of quality for tests, and a predictor that makes the one that it was given."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import strategies as st

from medseg_nca.config.training import PredictionSettings
from medseg_nca.inference.bundle import LoadedModel
from medseg_nca.inference.predictor import Prediction, Predictor
from medseg_nca.io.volume import Volume
from medseg_nca.job import Job
from medseg_nca.trust.estimate import Estimate, LabelEstimate, unknown, worst

REASON = "The predicted Dice of post may be below 0.8."
DOUBTFUL = Estimate(
    "review",
    (REASON, "The image is noisier than those of the training."),
    {
        "anterior": LabelEstimate(0.9, 0.85, 0.95, "accept"),
        "post": LabelEstimate(0.7, 0.55, 0.82, "review"),
    },
    confidence=0.9,
)
GOOD = Estimate("accept", (), {"anterior": LabelEstimate(0.9, 0.85, 0.95, "accept")}, 0.9)
BAD = Estimate(
    "reject", ("The predicted Dice of post is below 0.8.",),
    {"post": LabelEstimate(0.2, 0.1, 0.4, "reject")}, 0.9, few=True,
)  # fmt: skip

_shares = st.floats(0, 1)
_labels = st.builds(
    LabelEstimate, _shares, _shares, _shares, st.sampled_from(["accept", "review", "reject"]),
    st.booleans(),
)  # fmt: skip


def _known(labels: dict[str, LabelEstimate], reasons: list[str], few: bool) -> Estimate:
    verdict = worst([label.verdict for label in labels.values()])
    return Estimate(verdict, tuple(reasons), labels, 0.9, few)


# Any estimate that a model can make.
estimates = st.one_of(
    st.builds(unknown, st.text(min_size=1)),
    st.builds(
        _known, st.dictionaries(st.text(min_size=1), _labels, min_size=1, max_size=4),
        st.lists(st.text(), max_size=3), st.booleans(),
    ),
)  # fmt: skip


class Estimating(Predictor):
    """A real predictor whose answers come with a given estimate."""

    def __init__(
        self, loaded: LoadedModel, estimate: Estimate, settings: PredictionSettings | None = None
    ) -> None:
        super().__init__(loaded, settings)
        self.estimate = estimate

    def predict(self, volume: Volume, job: Job | None = None) -> Prediction:
        return replace(super().predict(volume, job), estimate=self.estimate)
