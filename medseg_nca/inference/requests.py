"""What a model of any task is asked to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medseg_nca.config.trust import TrustSettings
from medseg_nca.inference.trained import TrainedModel


@dataclass(frozen=True)
class PredictRequest:
    """What a prediction is asked to do.

    Attributes:
        model: a trained model of the task.
        inputs: files and folders to predict; empty for a task that needs no input.
        out: folder of the results, created if it does not exist.
        formats: names of the output formats; empty stands for the task's usual formats.
        overrides: changes to the settings that the model carries, each as ``--set`` takes it.
        options: further options by name; :attr:`Task.predict_options` are those a task knows.
        workers: number of processes that work at the same time.
        scheduler: address of a Dask scheduler that shares out the cases; None uses this machine.
        fresh: whether cases that an earlier call finished are predicted again.
    """

    model: TrainedModel
    inputs: Sequence[Path]
    out: Path
    formats: tuple[str, ...] = ()
    overrides: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    workers: int = 1
    scheduler: str | None = None
    fresh: bool = False


@dataclass(frozen=True)
class EvaluateRequest:
    """What an evaluation is asked to do.

    Attributes:
        model: a trained model of the task.
        data: folder of the data set; None for a task that needs no data.
        out: folder of the results, created if it does not exist.
        split: "test", "val", "train" or "all".
        overrides: changes to the settings that the model carries, each as ``--set`` takes it.
        options: further options by name; :attr:`Task.evaluate_options` are those a task knows.
        workers: number of processes that work at the same time.
        scheduler: address of a Dask scheduler that shares out the cases; None uses this machine.
        fresh: whether cases that an earlier call finished are evaluated again.
    """

    model: TrainedModel
    data: Path | None
    out: Path
    split: str = "test"
    overrides: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    workers: int = 1
    scheduler: str | None = None
    fresh: bool = False


@dataclass(frozen=True)
class TrustRequest:
    """What is needed to let a model learn to estimate its own answers.

    Attributes:
        model: a trained model of the task.
        data: folder of a labelled data set, raw or prepared.
        split: "val", "test", "train" or "all": cases that the model was not trained on are needed.
        settings: how many cases, which faults, which confidence.
        overrides: changes to the settings that the model carries, each as ``--set`` takes it.
        minutes: time after which images with faults are left out; None takes all.
    """

    model: TrainedModel
    data: Path
    split: str = "val"
    settings: TrustSettings = field(default_factory=TrustSettings)
    overrides: tuple[str, ...] = ()
    minutes: float | None = None
