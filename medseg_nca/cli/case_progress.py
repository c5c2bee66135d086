"""The progress bars of work that goes case by case."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from medseg_nca.cli.console import make_console

if TYPE_CHECKING:
    from medseg_nca.pipelines.parallel import Outcome

R = TypeVar("R")


class _Rate(TextColumn):
    """Cases a second."""

    def __init__(self) -> None:
        super().__init__("")

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
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
            MofNCompleteColumn(),
            _Rate(),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=make_console(stderr=True),
        )

    def track(self, outcomes: Iterable[Outcome[R]], stage: str, total: int) -> Iterator[Outcome[R]]:
        """Pass the outcomes of a stage on, and count them: all, resumed and failed ones."""
        task = self.bar.add_task(stage, total=total, note="")
        resumed = failed = 0
        for outcome in outcomes:
            yield outcome
            resumed += outcome.resumed
            failed += outcome.error is not None
            self.bar.update(task, advance=1, note=_note(resumed, failed))

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
