"""The progress bars of work that goes case by case."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from medseg_nca.cli.console import make_console

if TYPE_CHECKING:
    from medseg_nca.work.scheduler import Outcome

R = TypeVar("R")


# A case that is done in less is too short to tell how far it is.
_LONG_SECONDS = 2.0


class _Count(MofNCompleteColumn):
    """How many cases of all, or how much of one."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.percentage:.0f} %") if task.fields["one"] else super().render(task)


class _Rate(TextColumn):
    """Cases a second."""

    def __init__(self) -> None:
        super().__init__("")

    def render(self, task: Task) -> Text:
        speed = None if task.fields["one"] else task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:.1f} cases/s")


def _note(resumed: int, failed: int) -> str:
    """What is unusual of the cases so far."""
    parts = {"resumed": resumed, "failed": failed}
    return ", ".join(f"{count} {word}" for word, count in parts.items() if count)


class CaseProgress:
    """Shows on stderr how far each stage is, how fast it goes and how long it will take."""

    def __init__(self) -> None:
        self.bar = Progress(
            TextColumn("{task.description:<10}"),
            BarColumn(),
            _Count(),
            _Rate(),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=make_console(stderr=True),
        )
        self._case: TaskID | None = None
        self._began = time.monotonic()

    def track(self, outcomes: Iterable[Outcome[R]], stage: str, total: int) -> Iterator[Outcome[R]]:
        """Pass the outcomes of a stage on, and count them: all, resumed and failed ones."""
        task = self.bar.add_task(stage, total=total, note="", one=False)
        resumed = failed = 0
        for outcome in outcomes:
            yield outcome
            resumed += outcome.resumed
            failed += outcome.error is not None
            self._end_case()
            self.bar.update(task, advance=1, note=_note(resumed, failed))

    def within(self, done: int, total: int) -> None:
        """Show how far the present case is, once it has taken some seconds."""
        if self._case is None:
            if time.monotonic() - self._began < _LONG_SECONDS:
                return
            self._case = self.bar.add_task("this case", total=total, note="", one=True)
        self.bar.update(self._case, completed=done, total=total)

    def _end_case(self) -> None:
        if self._case is not None:
            self.bar.remove_task(self._case)
        self._case, self._began = None, time.monotonic()

    def __enter__(self) -> Self:
        self.bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.bar.stop()
