"""How much an answer depends on the fire seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from medseg_nca.dynamics.subject import Array, Averages, ProbedCase, Scores
from medseg_nca.job import Job


@dataclass(frozen=True)
class SeedAnswers:
    """The answers of one case with several fire seeds.

    Attributes:
        pairs: the agreement of every two answers, averaged.
        least: the agreement of the two answers that agree least, by the first of its names.
        scores: against the truth, a row for each seed.
        disagreement: ``(*answer)`` without the first axis: of labels, the share of the seeds that
            do not say what most of them say; of real values, their standard deviation.
    """

    pairs: Scores
    least: float | None
    scores: tuple[Scores, ...]
    disagreement: NDArray[np.float32]


def compare_seeds(case: ProbedCase, seeds: Sequence[int], job: Job | None = None) -> SeedAnswers:
    """Answer a case with several fire seeds, and compare the answers.

    Raises:
        NonFiniteStateError: if a state becomes NaN or infinite.
        Interrupted: if the job was cancelled.
    """
    answers = [case.answer(seed=seed, job=job) for seed in seeds]
    pairs = [case.agreement(a, b) for a, b in combinations(answers, 2)]
    firsts = [value for row in pairs if (value := next(iter(row.values()), None)) is not None]
    return SeedAnswers(
        Averages(pairs).mean(),
        min(firsts) if firsts else None,
        tuple(case.score(answer) for answer in answers),
        disagreement(np.stack(answers), smooth=case.smooth),
    )


def disagreement(answers: Array, *, smooth: bool) -> NDArray[np.float32]:
    """Return where answers ``(n, K, *S)`` differ, ``(*S)``; see :class:`SeedAnswers`."""
    if smooth:
        spread: NDArray[np.float32] = answers.std(0, dtype=np.float64).mean(0).astype(np.float32)
        return spread
    most = np.zeros(answers.shape[1:], np.int64)
    for answer in answers:
        most = np.maximum(most, (answers == answer).sum(0))
    shares: NDArray[np.float32] = (1 - most / len(answers)).max(0).astype(np.float32)
    return shares
