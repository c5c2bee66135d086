"""Growing, measuring and answering with a model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from medseg_nca.errors import (
    ConfigError,
    DataError,
    ImageError,
    NonFiniteStateError,
    OutputError,
    PartialFailure,
)
from medseg_nca.io.read import read_volume
from medseg_nca.io.volume import Volume
from medseg_nca.io.write import write_volume
from medseg_nca.job import Job
from medseg_nca.tasks.base import EvaluateRequest, PredictRequest
from medseg_nca.tasks.generation import TASK
from medseg_nca.tasks.generation.evaluation import Wounded, healing
from tests.tasks.generation.growing import model_of, network, square, write_png

FAST = ("times=[1,2]", "count=2")


def test_what_grows_is_written_with_an_animation(tmp_path: Path) -> None:
    model = model_of(tmp_path)
    overrides = ("count=2", "seed=4", "steps=6", "damage=half")
    results = TASK.predict(PredictRequest(model, [], tmp_path / "out", overrides=overrides), Job())
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    expected = [f"emblem_seed{n}.{end}" for n in (4, 5) for end in ("gif", "png")]
    assert names == sorted([*expected, "predictions.json"])
    with Image.open(tmp_path / "out" / "emblem_seed4.png") as picture:
        assert (picture.mode, picture.size) == ("RGBA", (10, 10))
    with Image.open(tmp_path / "out" / "emblem_seed4.gif") as film:
        assert getattr(film, "n_frames", 1) > 1
    listed = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert [entry["seed"] for entry in listed["predictions"]] == [4, 5]
    assert listed["predictions"] == [result.to_dict() for result in results]
    assert all("6 steps" in result.line for result in results)


def test_the_same_seed_grows_the_same_and_another_does_not(tmp_path: Path) -> None:
    model = model_of(tmp_path)
    answers = TASK.answer(model, [[6, 1], [6, 1], [6, 2]])
    assert answers.shape == (3, 4, 10, 10)
    assert np.array_equal(answers[0], answers[1])
    assert not np.array_equal(answers[0], answers[2])


def test_the_engine_of_the_run_is_used_and_recorded(tmp_path: Path) -> None:
    folder = model_of(tmp_path).folder
    # As a model was never written, but as a person might edit it.
    tree = json.loads((folder / "model.json").read_text())
    tree["model"] |= {"engine": "no_such_engine", "checkpoint": 4}
    (folder / "model.json").write_text(json.dumps(tree))
    grown = {}
    for name in ("cpu", "reference"):
        model = TASK.load(folder, "cpu", name)
        TASK.predict(PredictRequest(model, [], tmp_path / name), Job())
        told = json.loads((tmp_path / name / "predictions.json").read_text())
        assert told["settings"]["engine"] == name
        grown[name] = np.asarray(Image.open(tmp_path / name / "emblem.png")).astype(int)
    assert np.abs(grown["cpu"] - grown["reference"]).max() <= 1
    found = TASK.evaluate(EvaluateRequest(model, None, tmp_path / "e", overrides=FAST), Job())
    assert found.tree["settings"]["engine"] == "reference"


def test_a_picture_goes_on_growing(tmp_path: Path) -> None:
    model = model_of(tmp_path)
    start = write_png(tmp_path / "start.png", square(10))
    request = PredictRequest(model, [start], tmp_path / "out", overrides=("animation=false",))
    (grown,) = TASK.predict(request, Job())
    assert set(grown.to_dict()["outputs"]) == {"image"}
    assert (tmp_path / "out" / "start.png").is_file()
    with pytest.raises(OutputError, match="is an input"):
        TASK.predict(PredictRequest(model, [start], tmp_path), Job())


def test_an_input_that_cannot_be_used_does_not_stop_the_others(tmp_path: Path) -> None:
    model = model_of(tmp_path)
    good = write_png(tmp_path / "good.png", square(10))
    bad = write_png(tmp_path / "bad.png", np.zeros((10, 10, 3)))
    with pytest.raises(PartialFailure) as caught:
        TASK.predict(PredictRequest(model, [bad, good], tmp_path / "out"), Job())
    assert "no alpha channel" in caught.value.failures["bad"]
    assert (tmp_path / "out" / "good.png").is_file()


@pytest.mark.parametrize(
    ("overrides", "word"),
    [
        (("stps=3",), "steps"),
        (("target=heart",), "emblem"),
        (("target=1",), "0 to 0"),
        (("genome=[1,0]",), "genome has 2"),
        (("damage=bite",), "damage"),
        (("damage=half", "damage_at=99"), "damage_at is 99"),
        (("genome=[.nan]",), "genome"),
        (("genome=[.inf]",), "genome"),
        (("genome=[1e38]",), "genome"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    tmp_path: Path, overrides: tuple[str, ...], word: str
) -> None:
    request = PredictRequest(model_of(tmp_path), [], tmp_path / "out", overrides=overrides)
    earlier = tmp_path / "out" / "predictions.json"
    earlier.parent.mkdir()
    earlier.write_text("{}")
    with pytest.raises(ConfigError, match=word):
        TASK.predict(request, Job())
    assert [path.name for path in earlier.parent.iterdir()] == ["predictions.json"]


def test_formats_and_options_of_other_tasks_are_refused(tmp_path: Path) -> None:
    model = model_of(tmp_path)
    with pytest.raises(ConfigError, match="written as png"):
        TASK.predict(PredictRequest(model, [], tmp_path, formats=("nifti",)), Job())
    with pytest.raises(ConfigError, match="--flips: is no option"):
        TASK.predict(PredictRequest(model, [], tmp_path, options={"flips": 0}), Job())
    with pytest.raises(DataError, match="without a data set"):
        TASK.evaluate(EvaluateRequest(model, tmp_path, tmp_path / "out"), Job())


def test_an_evaluation_measures_growth_persistence_and_mending(tmp_path: Path) -> None:
    model = model_of(tmp_path)
    done = TASK.evaluate(EvaluateRequest(model, None, tmp_path / "out", overrides=FAST), Job())
    tree = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert tree == json.loads(json.dumps(done.tree))
    assert [case["id"] for case in tree["cases"]] == ["emblem/0", "emblem/1"]
    case = tree["cases"][0]
    assert case["psnr"]["1x"] == pytest.approx(-10 * np.log10(case["loss"]["1x"]))
    assert set(case["damage"]) == {"disc", "half", "corner"}
    assert tree["score"]["better"] == "higher"
    report = (tmp_path / "out" / "report.html").read_text()
    assert report.count("data:image/gif") == 1
    assert report.count("data:image/png") == 6
    assert TASK.table(tree).rows[0][0] == "after 1x the trained steps"
    for metric in TASK.comparable(tree):
        values = TASK.case_values(tree, metric)
        assert set(values["emblem"]) == {"emblem/0", "emblem/1"}
    assert TASK.published(tree)["loss_1x"] == tree["loss"]["1x"]
    rows = (tmp_path / "out" / "metrics.csv").read_text().splitlines()
    assert len(rows) == 3


def test_the_losses_of_an_evaluation_are_those_of_the_pictures(tmp_path: Path) -> None:
    model = model_of(tmp_path)
    tree = TASK.evaluate(
        EvaluateRequest(model, None, tmp_path / "out", overrides=("times=[1]", "count=1")), Job()
    ).tree
    grown = TASK.answer(model, {"steps": network(model).steps, "seed": 0})
    loss = float(np.square(grown[0] - network(model).targets[0].numpy()).mean())
    assert tree["cases"][0]["loss"]["1x"] == pytest.approx(loss, rel=1e-6)


@pytest.mark.parametrize(
    ("losses", "steps"),
    [
        ((0.01, 0.2, 0.1, 0.02, 0.01), 2),  # back at twice the loss before
        ((0.01, 0.2, 0.1, 0.05, 0.03), None),  # never back
        ((0.01, 0.02, 0.01, 0.01, 0.01), None),  # the wound did no harm
        ((0.1, 0.5, 0.1, 0.1, 0.1), None),  # nothing had grown
    ],
)
def test_only_what_had_grown_and_was_harmed_can_heal(
    losses: tuple[float, ...], steps: int | None
) -> None:
    assert healing(Wounded(losses, (), ()), constant=0.1)["steps_to_heal"] == steps


def test_the_score_does_not_depend_on_the_times_that_are_asked_for(tmp_path: Path) -> None:
    model, scores = model_of(tmp_path), []
    for times in ("times=[1]", "times=[1,2,12]"):
        request = EvaluateRequest(model, None, tmp_path / "out", overrides=(times, "count=1"))
        tree = TASK.evaluate(request, Job()).tree
        scores.append(tree["score"])
        assert all(entry["steps_to_heal"] is None for entry in tree["damage"].values())
        assert any("nothing to mend" in note for note in tree["notes"])
    grown = TASK.answer(model, {"steps": 10 * network(model).steps, "seed": 0})
    loss = float(np.square(grown[0] - network(model).targets[0].numpy()).mean())
    assert scores[0] == scores[1]
    assert scores[0]["value"] == pytest.approx(-10 * np.log10(loss), rel=1e-5)
    assert "10x" in scores[0]["name"]


def test_a_state_that_is_not_finite_is_told_with_its_step(tmp_path: Path) -> None:
    model = model_of(tmp_path)
    with torch.no_grad():
        network(model).cell.update.output.weight.fill_(1e30)
    done = TASK.evaluate(EvaluateRequest(model, None, tmp_path / "out", overrides=FAST), Job())
    assert "after step" in done.failed["emblem/0"]
    assert done.tree["failed"] == [{"id": i, "error": text} for i, text in done.failed.items()]
    with pytest.raises(PartialFailure):
        done.raise_for_failures()
    with pytest.raises(NonFiniteStateError, match="after step"):
        TASK.answer(model, [[9, 0]])


def test_a_stored_answer_is_recognised(tmp_path: Path) -> None:
    model = model_of(tmp_path)
    reference = TASK.make_reference(model)
    spec = model.spec.changed(reference=reference)
    stored = type(model)(model.module, spec, model.folder, model.device)
    assert TASK.check_reference(stored).identical
    with torch.no_grad():
        network(model).cell.update.output.weight.mul_(3)
    assert not TASK.check_reference(stored).passed


def test_answers_need_fitting_arrays(tmp_path: Path) -> None:
    model = model_of(tmp_path)
    start = np.zeros((1, 4, 10, 10), np.float32)
    start[:, 3, 4:6, 4:6] = 1
    assert TASK.answer(model, {"image": start, "steps": 2}).shape == (1, 4, 10, 10)
    for value, word in (
        (np.zeros(3), r"\(N, 2\)"),
        ({"step": 3}, "steps"),
        ({"image": np.zeros((4, 10, 10))}, "image has the shape"),
        ({"steps": [1, 2], "seed": [1, 2, 3]}, "different lengths"),
        ({"steps": [0]}, "steps must be"),
        ({"target": [1]}, "target must be"),
        ({"seed": ["a"]}, "numbers"),
        ({"genome": [[np.nan]]}, "NaN"),
    ):
        with pytest.raises(ImageError, match=word):
            TASK.answer(model, value)


def test_it_stops_by_itself_and_says_after_how_many_steps(tmp_path: Path) -> None:
    model = model_of(tmp_path, "model.cell.stop={tolerance: 1e9, least: 2}")
    (grown,) = TASK.predict(PredictRequest(model, [], tmp_path / "out"), Job())
    assert grown.to_dict()["steps"] == 2


def test_a_volume_grows_too(tmp_path: Path) -> None:
    values = np.zeros((1, 6, 6, 5), np.float32)
    values[0, 2:4, 2:4, 1:4] = 3
    path = tmp_path / "lump.nii.gz"
    write_volume(Volume(values, np.diag([2.0, 2, 3, 1])), path)
    overrides = (
        f"options.target={path}", "options.grid=[8,8,7]", "model.dims=3",
        "model.cell.alive.channel=1",
    )  # fmt: skip
    model = model_of(tmp_path, *overrides)
    TASK.predict(PredictRequest(model, [], tmp_path / "out"), Job())
    grown = read_volume(tmp_path / "out" / "lump.nii.gz")
    assert grown.shape == (8, 8, 7)
    assert grown.spacing == (2, 2, 3)
    assert (tmp_path / "out" / "lump_alpha.nii.gz").is_file()
    assert (tmp_path / "out" / "lump.gif").is_file()
    request = EvaluateRequest(model, None, tmp_path / "ev", overrides=("times=[1]", "count=1"))
    assert len(TASK.evaluate(request, Job()).tree["cases"]) == 1
    assert TASK.tags(model) == {"dims": "3", "grid": "8 x 8 x 7", "targets": "lump"}
