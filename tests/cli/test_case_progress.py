"""The bars of work that goes case by case."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from medseg_nca.cli import case_progress
from medseg_nca.cli.case_progress import CaseProgress
from medseg_nca.work.scheduler import Outcome


def test_a_long_case_has_a_bar_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(case_progress, "_LONG_SECONDS", 0.0)
    progress = CaseProgress()

    def outcomes() -> Iterator[Outcome[str]]:
        progress.within(1, 4)
        progress.within(3, 4)
        assert [task.percentage for task in progress.bar.tasks] == [0, 75]
        yield Outcome(0, "done")

    with progress:
        assert [outcome.result for outcome in progress.track(outcomes(), "predicting", 1)] == [
            "done"
        ]
        assert [task.percentage for task in progress.bar.tasks] == [100]


def test_a_short_case_has_none() -> None:
    progress = CaseProgress()
    progress.within(1, 4)
    assert not progress.bar.tasks
