"""The progress bars of all commands: one listener of a job."""

from __future__ import annotations

import time
from collections.abc import Collection
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich import progress as rich
from rich.text import Text

from medseg_nca.cli.console import make_console
from medseg_nca.job import ONE_CASE, Job

if TYPE_CHECKING:
    from medseg_nca.job import Progress

_LOSS, _VALIDATED = "loss", "val_"


class _Count(rich.ProgressColumn):
    """How many of all, how many bytes, or which share."""

    def __init__(self) -> None:
        super().__init__()
        self._many, self._bytes = rich.MofNCompleteColumn(), rich.DownloadColumn()

    def render(self, task: rich.Task) -> Text:
        unit = task.fields["unit"]
        if not unit:
            return Text(f"{task.percentage:.0f} %")
        return self._bytes.render(task) if unit == "bytes" else self._many.render(task)


class _Rate(rich.ProgressColumn):
    """How many a second."""

    def __init__(self) -> None:
        super().__init__()
        self._bytes = rich.TransferSpeedColumn()

    def render(self, task: rich.Task) -> Text:
        unit, speed = task.fields["unit"], task.finished_speed or task.speed
        if unit == "bytes":
            return self._bytes.render(task)
        return Text(f"{speed:.1f} {unit}/s" if unit and speed is not None else "")


class ProgressBars:
    """Shows on standard error how far each phase is, how fast it goes and how long it will take.

    Nothing is shown before the first report.

    Args:
        passing: phases whose bars go away at the end.
        patience: how long one case must take, in seconds, before it gets a bar of its own.

    Attributes:
        job: to be handed to the work.
    """

    def __init__(self, passing: Collection[str] = (), patience: float = 2.0) -> None:
        self.job = Job(self.show)
        self._passing, self._patience = passing, patience
        self._bar: rich.Progress | None = None
        self._tasks: dict[str, rich.TaskID] = {}
        self._loss: float | None = None
        self._score = ""
        self._began = time.monotonic()

    @property
    def tasks(self) -> list[rich.Task]:
        """The bars that are shown."""
        return [] if self._bar is None else self._bar.tasks

    def show(self, progress: Progress) -> None:
        """See :class:`medseg_nca.job.Job`."""
        if progress.phase == ONE_CASE:
            if ONE_CASE not in self._tasks and time.monotonic() - self._began < self._patience:
                return
        else:
            self._forget(ONE_CASE)
            self._began = time.monotonic()
        bar = self._started()
        if progress.phase not in self._tasks:
            self._tasks[progress.phase] = bar.add_task(
                progress.phase, total=progress.total, note="", unit=progress.unit
            )
        bar.update(
            self._tasks[progress.phase], completed=progress.done, total=progress.total,
            note=self._note(progress),
        )  # fmt: skip

    def stop(self) -> None:
        """Take the bars down; the next report puts up new ones."""
        if self._bar is None:
            return
        for phase in (ONE_CASE, *self._passing):
            self._forget(phase)
        if not self._bar.tasks:
            self._bar.live.transient = True  # else an empty line would stay
        self._bar.stop()
        self._bar = None
        self._tasks.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _started(self) -> rich.Progress:
        if self._bar is None:
            self._bar = rich.Progress(
                rich.TextColumn("{task.description:<10}"),
                rich.BarColumn(),
                _Count(),
                _Rate(),
                rich.TextColumn("{task.fields[note]}"),
                rich.TimeElapsedColumn(),
                rich.TimeRemainingColumn(),
                console=make_console(stderr=True),
            )
            self._bar.start()
        return self._bar

    def _forget(self, phase: str) -> None:
        task = self._tasks.pop(phase, None)
        if task is not None and self._bar is not None:
            self._bar.remove_task(task)

    def _note(self, progress: Progress) -> str:
        """What is unusual of the cases so far; of a training its iteration, loss and score."""
        facts = progress.facts
        if "iteration" not in facts:
            counts = {word: int(facts.get(word, 0)) for word in ("resumed", "failed")}
            return ", ".join(f"{count} {word}" for word, count in counts.items() if count)
        if _LOSS in facts:
            loss = facts[_LOSS]
            self._loss = loss if self._loss is None else 0.8 * self._loss + 0.2 * loss
        # The first of the validation's numbers is its score.
        name = next((name for name in facts if name.startswith(_VALIDATED)), None)
        if name is not None:
            word = name.removeprefix(_VALIDATED).replace("_", " ")
            self._score = f"  val {'Dice' if word == 'dice' else word} {facts[name]:.3f}"
        note = f"iteration {facts['iteration']:.0f}"
        if self._loss is not None:
            note += f"  loss {self._loss:.3f}"
        return note + self._score
