"""Predictions and evaluations of many cases that tests watch and compare."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from medseg_nca.config.training import EvaluationSettings, PredictionSettings
from medseg_nca.inference.bundle import LoadedModel
from medseg_nca.job import ONE_CASE, Job, Progress
from medseg_nca.tasks.segmentation import evaluation, prediction

CASES = 6
OF_THE_RUN = {"seconds", "created", "git_commit"}
QUICK = EvaluationSettings(bootstrap=20)


class Watch:
    """Notes what a job hears, and cancels it after some cases."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.job = Job(self.hear)
        self.stop_after = stop_after
        self._resumed: dict[str, int] = {}
        self._seen: dict[str, int] = {}

    def hear(self, progress: Progress) -> None:
        if progress.phase == ONE_CASE:
            return
        self._resumed[progress.phase] = int(progress.facts.get("resumed", 0))
        self._seen[progress.phase] = progress.done
        if self.seen == self.stop_after:
            self.job.cancel()

    @property
    def seen(self) -> int:
        """How many cases there were, in all phases."""
        return sum(self._seen.values())

    @property
    def resumed(self) -> int:
        """How many of them an earlier run had made."""
        return sum(self._resumed.values())

    @property
    def done(self) -> int:
        """How many cases were worked on."""
        return self.seen - self.resumed


def predicted(
    model: LoadedModel,
    data: Path,
    out: Path,
    settings: PredictionSettings | None = None,
    **how: Any,
) -> int:
    """Predict; returns how many cases were worked on."""
    watch = Watch()
    prediction.run(
        prediction.PredictSegmentation(model, [data / "imagesTr"], out, settings, **how), watch.job
    )
    assert watch.seen == CASES
    return watch.done


def evaluated(
    model: LoadedModel, data: Path, out: Path, settings: EvaluationSettings = QUICK, **how: Any
) -> int:
    watch = Watch()
    evaluation.run(
        evaluation.EvaluateSegmentation(
            model, data, out, settings=settings, **{"figures": False, **how}
        ),
        watch.job,
    )
    return watch.done


def timeless(tree: Any) -> Any:
    """A tree of results without what may differ between two runs of the same command."""
    if isinstance(tree, dict):
        return {key: timeless(v) for key, v in tree.items() if key not in OF_THE_RUN}
    return [timeless(v) for v in tree] if isinstance(tree, list) else tree


def listed(out: Path, name: str = "predictions.json") -> Any:
    return timeless(json.loads((out / name).read_text()))


def same_predictions(one: Path, two: Path) -> None:
    """Two folders hold the same, but for the times and their own names."""
    lists = [json.dumps(listed(folder)).replace(str(folder), "OUT") for folder in (one, two)]
    assert lists[0] == lists[1]
    names = [sorted(p.name for p in folder.iterdir()) for folder in (one, two)]
    assert names[0] == names[1]
    for path in one.glob("*.nii.gz"):
        arrays = [np.asarray(nib.load(p).dataobj) for p in (path, two / path.name)]  # type: ignore[attr-defined]
        np.testing.assert_array_equal(*arrays)


def a_case(data: Path, number: int = 2, part: str = "imagesTr") -> Path:
    return sorted((data / part).iterdir())[number]


def same_evaluations(one: Path, two: Path) -> None:
    assert listed(one, "metrics.json") == listed(two, "metrics.json")
    tables = [
        [line.rsplit(",", 1)[0] for line in (folder / "metrics.csv").read_text().splitlines()]
        for folder in (one, two)
    ]
    assert tables[0] == tables[1]
    names = [sorted(str(p.relative_to(folder)) for p in folder.rglob("*")) for folder in (one, two)]
    assert names[0] == names[1]


def many(data: Path, folder: Path, count: int) -> Path:
    """The images of a data set, over and over."""
    folder.mkdir()
    images = sorted((data / "imagesTr").iterdir())
    for number in range(count):
        shutil.copy(images[number % len(images)], folder / f"{number:03d}.nii.gz")
    return folder
