"""The answer to a changed image, brought back and compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from medseg_nca.dynamics.changes import ImageChange
from medseg_nca.dynamics.subject import ProbedCase, Scores
from medseg_nca.errors import DataError, NonFiniteStateError
from medseg_nca.job import Job


@dataclass(frozen=True)
class Answered:
    """How a model answered a changed image.

    Attributes:
        case: name of the case.
        change: name of the change.
        scores: of the answer that was brought back, against the truth; empty if there is none.
        agreement: with the plain answer; 1 if the model is equivariant.
        limit: the agreement of the plain answer with itself, changed and brought back: what
            resampling alone costs.
        error: why there is no answer; None if there is one.
    """

    case: str
    change: str
    scores: Scores
    agreement: Scores
    limit: Scores
    error: str | None = None


def answer_changed(
    case: ProbedCase, changes: Sequence[ImageChange], job: Job | None = None
) -> tuple[Scores, tuple[Answered, ...]]:
    """Answer a case plainly and after each change.

    Args:
        case: a case with an image.
        changes: the changes.
        job: asked before every answer whether to go on.

    Returns:
        The scores of the plain answer, and one entry for each change.

    Raises:
        NonFiniteStateError: if the plain image makes a state NaN or infinite.
        Interrupted: if the job was cancelled.
    """
    job, image = job or Job(), case.image
    assert image is not None, "a case with an image"
    plain = case.answer(job=job.silent())
    found = []
    for change in changes:
        job.check()
        window = (slice(None), *change.window(image.shape))
        resampled = change.apply(image.with_array(plain), smooth=case.smooth).array
        again = change.back(resampled, image.shape, smooth=case.smooth)[window]
        limit = case.agreement(again, plain[window])
        try:
            changed = case.answer(image=change.apply(image), job=job.silent())
        except (NonFiniteStateError, DataError) as error:
            found.append(Answered(case.id, change.name, {}, {}, limit, error.message))
            continue
        back = change.back(changed, image.shape, smooth=case.smooth)[window]
        scores = case.score(back, window[1:])
        agreement = case.agreement(back, plain[window])
        found.append(Answered(case.id, change.name, scores, agreement, limit))
    return case.score(plain), tuple(found)
