"""The memory budget of a prediction: kept, or refused with what is needed; progress and cancel."""

from __future__ import annotations

import json
import subprocess
import sys
from math import prod
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from click.testing import CliRunner

from medseg_nca.cli.main import cli
from medseg_nca.config import Label, LabelTable, PreprocessPlan
from medseg_nca.config.model import CellSettings, LevelSettings, NcaModelSettings, UpdateSettings
from medseg_nca.errors import Interrupted, MemoryBudgetError
from medseg_nca.inference.bundle import LoadedModel, ModelSpec, load_bundle, save_bundle
from medseg_nca.inference.memory import footprint
from medseg_nca.inference.predictor import Predictor
from medseg_nca.inference.votes import LabelVotes, MeanVotes
from medseg_nca.io.peek import Extent, peek
from medseg_nca.io.volume import Volume
from medseg_nca.job import Job, Progress
from medseg_nca.models import build_model
from medseg_nca.tracking.resolve import load_segmentation
from medseg_nca.transforms.grid import Grid, Trace

# One process for all settings: the engine is compiled or loaded before anything is measured.
PROGRAM = """
import json, sys
import numpy as np
from medseg_nca.benchmark.memory import PeakMemory
from medseg_nca.inference.predictor import Predictor
from medseg_nca.io.volume import Volume
from medseg_nca.tracking.resolve import load_segmentation

loaded = load_segmentation(sys.argv[2], device="cpu")
random = np.random.default_rng(0)

def noise(*shape):
    return Volume(random.integers(-1000, 1000, size=(1, *shape), dtype=np.int16), np.eye(4))

Predictor(loaded).predict(noise(24, 24, 24))
for shape, changes in json.loads(sys.argv[1]):
    settings = loaded.spec.prediction.model_copy(update=changes)
    memory = PeakMemory()
    prediction = Predictor(loaded, settings).predict(noise(*shape))
    assert prediction.label_map.array.shape[1:] == tuple(shape)
    print(json.dumps(memory.megabytes()), flush=True)
"""


@pytest.fixture(scope="module")
def model() -> LoadedModel:
    return load_segmentation("zoo:hippocampus", device="cpu")


def noise(*shape: int) -> Volume:
    values = np.random.default_rng(0).integers(-1000, 1000, size=(1, *shape), dtype=np.int16)
    return Volume(values, np.eye(4))


@pytest.mark.slow
def test_the_budget_is_kept_on_noise(repository: Path) -> None:
    """What is measured includes the source; before there were tiles of it all it was 1.3 GB."""
    runs: list[tuple[tuple[int, ...], dict[str, Any]]] = [
        ((200, 200, 100), {"memory_budget_gb": 0.45, "largest": ("merged", "Anterior")}),
        ((200, 200, 100), {"memory_budget_gb": 0.45}),
        ((100, 100, 60), {"memory_budget_gb": 0.4, "uncertainty": 2, "flips": (0,)}),
    ]
    peaks = peaks_of("zoo:hippocampus", runs, repository)
    for peak, (_, settings) in zip(peaks, runs, strict=True):
        assert peak <= 1000 * settings["memory_budget_gb"]


def peaks_of(model: str, runs: list[Any], repository: Path) -> list[float]:
    """Megabytes that each prediction took, measured in a process of their own."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(runs), model], cwd=repository, text=True,
        capture_output=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [float(line) for line in done.stdout.split()]


def many_labels(folder: Path, count: int) -> LoadedModel:
    """An untrained automaton of two levels whose last does not fit at once."""
    labels = tuple(Label(name=f"part_{n}", values=(n,)) for n in range(1, count + 1))
    table = LabelTable(labels=labels)
    settings = NcaModelSettings(
        name="octree_nca", dims=3, in_channels=1, out_channels=table.channels,
        cell=CellSettings(channels=24, update=UpdateSettings(hidden=32)),
        levels=(LevelSettings(scale=2, steps=4), LevelSettings(steps=4, patch=16)),
    )  # fmt: skip
    plan = PreprocessPlan(dims=3, channels=("MRI",), crop_size=(16, 16, 16))
    spec = ModelSpec(name="many", model=settings, labels=table, plan=plan)
    save_bundle(folder, build_model(settings), spec)
    return load_bundle(folder, "cpu")


@pytest.mark.slow
def test_the_budget_is_kept_with_many_labels_and_passes(repository: Path, tmp_path: Path) -> None:
    """Source, probabilities of 20 labels, passes and tiles together stay below it."""
    model = many_labels(tmp_path / "model", 20)
    shape, item_bytes = (120, 110, 90), 2
    changes = {"uncertainty": 2, "probabilities": True, "largest": ()}
    settings = model.spec.prediction.model_copy(update=changes)
    needed = footprint(model, settings, Extent(1, shape, item_bytes, np.eye(4)))
    budget = 1.02 * needed.least / 1e9
    states = 3 * prod(shape) * 24 * 4
    assert states > needed.left(1e9 * budget), "the last level does not fit at once"
    (peak,) = peaks_of(str(tmp_path / "model"), [(shape, {**changes, "memory_budget_gb": budget})],
                       repository)  # fmt: skip
    assert peak <= 1000 * budget


def test_what_is_needed_follows_the_settings(model: LoadedModel) -> None:
    extent = Extent(1, (200, 200, 100), 2, np.eye(4))

    def least(**changes: Any) -> float:
        return footprint(model, model.spec.prediction.model_copy(update=changes), extent).least

    voxels = 200 * 200 * 100
    assert least(precision="bfloat16") < least()
    # Three probabilities of four bytes, where else there is a label of one.
    assert least(flips=(0,)) > least() + 11 * voxels
    assert least(flips=(0,), uncertainty=2) > least(flips=(0,)) + 12 * voxels
    probabilities = {"largest": ("merged",), "probabilities": True}
    islands = footprint(model, model.spec.prediction.model_copy(update=probabilities), extent)
    # Six bytes for the islands beside labels of one byte and probabilities of three labels.
    assert islands.ending >= (6 + 1 + 3 * 4) * voxels
    larger = footprint(model, model.spec.prediction, Extent(1, (200, 200, 200), 2, np.eye(4)))
    assert larger.least > least() + 10 * voxels


def test_too_small_a_budget_is_refused_with_what_is_needed(model: LoadedModel) -> None:
    volume = noise(60, 60, 60)
    small = model.spec.prediction.model_copy(update={"memory_budget_gb": 0.1})
    with pytest.raises(MemoryBudgetError, match=r"60 x 60 x 60 .* at least 0\.\d+ GB") as caught:
        Predictor(model, small).predict(volume)
    needed = footprint(model, small, Extent.of(volume)).least / 1e9
    words = str(caught.value.hint).split()
    told = float(words[words.index("to") + 1])
    assert needed <= told < needed + 0.02
    Predictor(model, small.model_copy(update={"memory_budget_gb": told})).check_memory(
        Extent.of(volume), "it"
    )


def large_file(path: Path) -> Path:
    """A NIfTI file of zeros that takes no room on the disk."""
    image = nib.Nifti1Image(np.zeros((1, 1, 1), np.int16), np.eye(4))
    image.header.set_data_shape((256, 256, 256))
    with path.open("wb") as file:
        file.write(image.header.binaryblock + bytes(4))
        file.truncate(352 + 2 * 256**3)
    return path


def test_the_command_refuses_one_case_and_goes_on_with_others(tmp_path: Path) -> None:
    large = large_file(tmp_path / "large.nii")
    small = tmp_path / "small.nii"
    nib.Nifti1Image(noise(24, 24, 24).array[0], np.eye(4)).to_filename(small)
    command = ["predict", "--model", "zoo:hippocampus", "--memory-gb", "0.35", "--device", "cpu"]
    one = CliRunner().invoke(cli, [*command, "--out", str(tmp_path / "one"), str(large)])
    assert one.exit_code == 2
    assert "at least" in one.output
    assert "--memory-gb" in one.output
    both = CliRunner().invoke(
        cli, [*command, "--out", str(tmp_path / "both"), str(large), str(small)]
    )
    assert both.exit_code == 3
    assert (tmp_path / "both" / "small.nii").is_file()
    assert not (tmp_path / "both" / "large.nii").exists()


def test_the_extent_is_told_by_the_header(tmp_path: Path) -> None:
    found = peek((large_file(tmp_path / "large.nii"),))
    assert found is not None
    assert (found.channels, found.shape, found.item_bytes) == (1, (256, 256, 256), 2)
    four = tmp_path / "four.nii.gz"
    nib.Nifti1Image(np.zeros((4, 5, 6, 3), np.float32), np.eye(4)).to_filename(four)
    found = peek((four,))
    assert found is not None
    assert (found.channels, found.shape, found.item_bytes) == (3, (4, 5, 6), 4)
    broken = tmp_path / "broken.nii"
    broken.write_bytes(b"no image")
    assert peek((broken,)) is None
    assert peek((tmp_path / "picture.png",)) is None


@pytest.mark.parametrize("changes", [{}, {"uncertainty": 2, "flips": (1,)}])
def test_who_waits_is_told_how_far_it_is(model: LoadedModel, changes: dict[str, Any]) -> None:
    told: list[float] = []
    settings = model.spec.prediction.model_copy(update=changes)
    job = Job(lambda progress: told.append(progress.done / (progress.total or 1)))
    Predictor(model, settings).predict(noise(24, 26, 20), job)
    assert told == sorted(told)
    assert told[-1] == 1
    assert len(set(told)) >= (12 if changes else 3)


def test_a_cancelled_prediction_ends_at_its_next_step(model: LoadedModel) -> None:
    heard: list[int] = []

    def enough(progress: Progress) -> None:
        heard.append(progress.done)
        job.cancel("The client has left.")

    job = Job(enough)
    with pytest.raises(Interrupted, match="The client has left"):
        Predictor(model).predict(noise(24, 24, 24), job)
    assert len(heard) == 1


def trace_of(shape: tuple[int, ...]) -> Trace:
    grid = Grid(shape, tuple(tuple(row) for row in np.eye(4).tolist()))
    return Trace(grid, grid, (0,) * len(shape), grid, grid)


def test_sums_give_the_mean_and_the_spread_of_all_passes() -> None:
    """Three passes of two flips each, in windows: mean over all, spread over the passes' means."""
    table = LabelTable(labels=(Label(name="a", values=(3,)), Label(name="b", values=(7,))))
    passes = torch.rand(3, 2, 3, 4, 5).softmax(2)
    votes = MeanVotes((4, 5), table, parts=2, passes=3, spread=True)
    for flips in passes:
        for part in flips:
            for rows in (slice(0, 1), slice(1, 4)):
                votes.add((rows, slice(0, 5)), part[:, rows])
        votes.end_pass()
    mean = passes.mean((0, 1)).numpy()
    spread = (1 - passes.mean(1)[:, 0]).std(0, correction=0).numpy()
    trace = trace_of((4, 5))
    assert np.array_equal(votes.label_map(trace)[0], np.array([0, 3, 7])[mean.argmax(0)])
    np.testing.assert_allclose(votes.probabilities(trace), mean, atol=1e-6)
    found = votes.spread(trace)
    assert found is not None
    np.testing.assert_allclose(found[0], spread, atol=1e-6)
    alone = LabelVotes((4, 5), table)
    alone.add((slice(0, 4), slice(0, 5)), passes[0, 0])
    expected = np.array([0, 3, 7])[passes[0, 0].numpy().argmax(0)]
    assert np.array_equal(alone.label_map(trace)[0], expected)
