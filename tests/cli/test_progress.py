"""The bars that a job's reports become."""

from __future__ import annotations

from medseg_nca.cli.progress import ProgressBars
from medseg_nca.job import ONE_CASE


def shown(bars: ProgressBars) -> dict[str, tuple[float, str]]:
    return {task.description: (task.percentage, task.fields["note"]) for task in bars.tasks}


def test_a_long_case_has_a_bar_of_its_own() -> None:
    with ProgressBars(patience=0) as bars:
        bars.job.report("predicting", 0, 1, unit="cases")
        bars.job.report(ONE_CASE, 1, 4)
        bars.job.report(ONE_CASE, 3, 4)
        assert shown(bars) == {"predicting": (0, ""), ONE_CASE: (75, "")}
        facts = {"resumed": 0, "failed": 1}
        bars.job.report("predicting", 1, 1, unit="cases", facts=facts)
        assert shown(bars) == {"predicting": (100, "1 failed")}


def test_a_short_case_has_none() -> None:
    with ProgressBars() as bars:
        bars.job.report(ONE_CASE, 1, 4)
        assert not bars.tasks


def test_a_training_shows_its_numbers() -> None:
    with ProgressBars() as bars:
        bars.job.report("training", 1, 10, facts={"iteration": 5, "loss": 1.0})
        bars.job.report("training", 2, 10, facts={"iteration": 10, "val_dice": 0.75})
        bars.job.report("training", 3, 10, facts={"iteration": 15, "loss": 0.5})
        note = "iteration 15  loss 0.900  val Dice 0.750"
        assert shown(bars) == {"training": (30, note)}


def test_bars_that_are_passing_go_away_and_new_ones_come() -> None:
    with ProgressBars(passing=("scanning",)) as bars:
        bars.job.report("scanning", 4, 4, unit="files")
        bars.stop()
        assert not bars.tasks
        bars.job.report("importing", 1, 2, unit="cases")
        assert shown(bars) == {"importing": (50, "")}
