"""The progress bar of a training."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Self

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from medseg_nca.cli.console import make_console


class TrainingProgress:
    """Shows iteration, loss and validation Dice on stderr."""

    def __init__(self) -> None:
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[numbers]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=make_console(stderr=True),
        )
        self.task = self.bar.add_task("training", total=1.0, numbers="")
        self.loss: float | None = None
        self.dice: float | None = None

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

    def on_log(self, iteration: int, values: Mapping[str, float], progress: float) -> None:
        """See :class:`medseg_nca.training.loop.Observer`."""
        if "loss" in values:
            value = values["loss"]
            self.loss = value if self.loss is None else 0.8 * self.loss + 0.2 * value
        self.dice = values.get("val_dice", self.dice)
        numbers = f"iteration {iteration}"
        if self.loss is not None:
            numbers += f"  loss {self.loss:.3f}"
        if self.dice is not None:
            numbers += f"  val Dice {self.dice:.3f}"
        self.bar.update(self.task, completed=progress, numbers=numbers)
