"""Every task can be searched, and of none the test part is read."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medseg_nca.config.loading import load_settings
from medseg_nca.datasets.depth_phantom import write_depth_phantom
from medseg_nca.pipelines.search import SearchRequest
from medseg_nca.pipelines.search import run as run_search
from medseg_nca.search.budget import parse_budget
from medseg_nca.search.space import parse_tune

LONG_AGO = 1.0  # a time before that of any change, so that the next reading is noted


def write_classes(folder: Path) -> Path:
    """Sixteen pictures of two classes."""
    chance = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (folder / name).mkdir(parents=True)
        for number in range(8):
            pixels = chance.integers(0, 255, (8, 8), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")
    return folder


def mark_unread(folder: Path) -> list[Path]:
    files = sorted(path for path in folder.rglob("*") if path.suffix in {".png", ".tif", ".tiff"})
    for path in files:
        os.utime(path, (LONG_AGO, path.stat().st_mtime))
    assert files
    return files


def was_read(path: Path) -> bool:
    return path.stat().st_atime != LONG_AGO


def searched(config: str, data: Path | None, out: Path, *more: str) -> dict[str, float]:
    words = ("model.levels=[{scale: 1, steps: 2}]", "tracking.enabled=false", *more)
    wanted = SearchRequest(
        config, load_settings(config, words), data, out, (parse_tune("training.lr=1e-3..2e-2"),),
        trials=1, budget=parse_budget("2"),
    )  # fmt: skip
    values: dict[str, float] = run_search(wanted).best["values"]
    return values


@pytest.mark.parametrize(
    ("config", "score", "more"),
    [
        ("digits_classification", "balanced_accuracy", ("options.data=null",)),
        ("phantom_depth", "skill", ("training.batch_size=2", "preprocess.crop_size=[16, 16]")),
    ],
)
def test_the_files_of_the_test_part_stay_unread(
    config: str, score: str, more: tuple[str, ...], tmp_path: Path
) -> None:
    folder, out = tmp_path / "data", tmp_path / "out"
    data = write_classes(folder) if score != "skill" else write_depth_phantom(
        folder, 8, size=(16, 16)
    )  # fmt: skip
    files = mark_unread(data)
    assert list(searched(config, data, out, *more)) == [score]
    split = json.loads((out / "split.json").read_text())
    name = {path: path.relative_to(data).as_posix() for path in files}
    listed = {
        side: [p for p in files if name[p] in split[side] or p.stem in split[side]]
        for side in ("train", "val", "test")
    }
    if not all(was_read(path) for path in listed["train"]):
        pytest.skip("this file system does not note when a file is read")
    assert all(was_read(path) for path in listed["val"])
    assert listed["test"]
    assert not [path for path in listed["test"] if was_read(path)]


def test_a_task_without_data_is_searched(tmp_path: Path) -> None:
    more = ("options.size=8", "options.grid=12", "options.pool=12", "training.batch_size=4",
            "model.cell.update.hidden=8", "options.damaged=1")  # fmt: skip
    assert list(searched("growing_emblem", None, tmp_path, *more)) == ["psnr"]
