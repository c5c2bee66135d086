"""Films of automata at work: what is on their frames, how many there are, and what is refused."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from medseg_nca.cli.main import cli
from medseg_nca.config.model import GenericModelSettings, StopSettings
from medseg_nca.config.training import PredictionSettings
from medseg_nca.errors import ConfigError, DependencyError, OutputError
from medseg_nca.inference.bundle import ModelSpec, save_bundle
from medseg_nca.inference.step_factor import scaled_steps
from medseg_nca.models import RunOptions, build_model
from medseg_nca.pipelines import animate
from medseg_nca.pipelines.animate import AnimateRequest
from medseg_nca.stages.stage import StageRequest, steps_of, walk
from medseg_nca.tasks import TASKS
from medseg_nca.viz.film_file import FORMATS
from medseg_nca.viz.tints import label_colours, signed
from tests.seeing.handmade import (
    LABELS,
    classifying,
    disc,
    picture,
    plan,
    regressing,
    segmenting,
    volume,
)
from tests.tasks.generation.growing import model_of

ORANGE = np.array(label_colours(1)[0])


def film(path: Path) -> list[np.ndarray[Any, Any]]:
    """All frames, ``(rows, columns, 3)``."""
    with Image.open(path) as gif:
        frames = []
        for place in range(gif.n_frames):  # type: ignore[attr-defined]
            gif.seek(place)
            frames.append(np.asarray(gif.convert("RGB"), dtype=int))
    return frames


def request(model: Any, out: Path, *inputs: Path, **how: Any) -> AnimateRequest:
    return AnimateRequest(model, inputs, out, **how)


def orange(frame: np.ndarray[Any, Any], columns: slice) -> int:
    """Pixels of the answer's panel that have the colour of the label or a mixture of it."""
    part = frame[24:330, columns]
    return int(((part[..., 0] - part[..., 2] > 80) & (part[..., 0] > part[..., 1])).sum())


def test_a_segmentation_grows_level_by_level_on_its_image(tmp_path: Path) -> None:
    model = segmenting(tmp_path / "model", scales=(4, 1))
    made = animate.run(request(model, tmp_path / "out", picture(tmp_path / "disc.png")))
    frames = film(made[0].path)
    # Each level has the state before its first step too.
    assert len(frames) == made[0].frames == 2 * (6 + 1)
    assert made[0].levels == (6, 6)
    assert frames[0].shape == (*made[0].size[::-1], 3)
    right = slice(340, None)
    assert orange(frames[0], right) == 0, "nothing is found before the first step"
    pixel = (320 / 40) ** 2
    assert orange(frames[-1], right) == pytest.approx((disc() > 0).sum() * pixel, rel=0.02)
    # The coarse level shows cells of 4 x 4 pixels.
    assert orange(frames[6], right) % (4 * 4 * pixel) < 0.02 * orange(frames[6], right)
    left = slice(8, 328)
    assert (frames[0][24:330, left] == frames[-1][24:330, left]).all(), "the image stays"
    legend = frames[-1][-46:]
    assert (np.abs(legend - ORANGE).max(-1) == 0).sum() == 11 * 11
    tree = json.loads((tmp_path / "out" / "films.json").read_text())
    assert tree["films"][0]["frames"] == 14


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    model, image = segmenting(tmp_path / "model"), picture(tmp_path / "disc.png")
    films = [
        animate.run(request(model, tmp_path / str(number), image, seed=seed))[0].path.read_bytes()
        for number, seed in enumerate((3, 3, 4))
    ]
    assert films[0] == films[1]
    assert films[0] != films[2]


def test_the_last_state_is_that_of_an_inference(tmp_path: Path) -> None:
    """Steps one by one, level by level, are the model's own."""
    model = segmenting(tmp_path / "model", scales=(2, 1))
    image = picture(tmp_path / "disc.png")
    stage = TASKS.get("segmentation").stages(StageRequest(model, [image]))[0].open()
    *_, last = walk(stage, seed=5)
    states: list[torch.Tensor] = []
    with torch.inference_mode():
        options = RunOptions(seed=5, record=lambda level, state: states.append(state.clone()))
        model.model(torch.from_numpy(stage.image)[None], options)  # type: ignore[arg-type]
    torch.testing.assert_close(last.state, states[-1])
    assert steps_of(stage, 1.5) == (9, 9)
    assert steps_of(stage, 0.01) == (1, 1)


def test_a_model_is_shown_as_it_is_used(tmp_path: Path) -> None:
    """The settings of its predictions say how many steps it takes, and without fire masks."""
    prediction = PredictionSettings(step_factor=(0.5, 2.0), fire="mean")
    model = segmenting(tmp_path / "m", scales=(2, 1), steps=5, prediction=prediction)
    image = picture(tmp_path / "disc.png")
    stage = TASKS.get("segmentation").stages(StageRequest(model, [image]))[0].open()
    assert steps_of(stage, 1) == scaled_steps(model.model, (0.5, 2.0)) == (3, 10)
    assert steps_of(stage, 0.5) == (2, 5)
    states: list[torch.Tensor] = []
    with torch.inference_mode():
        options = RunOptions(
            fire="mean", steps=(3, 10), record=lambda level, state: states.append(state.clone())
        )
        model.model(torch.from_numpy(stage.image)[None], options)  # type: ignore[arg-type]
    *_, last = walk(stage, seed=5)
    torch.testing.assert_close(last.state, states[-1])


def test_half_steps_are_rounded_as_predictions_round_them(tmp_path: Path) -> None:
    model, image = segmenting(tmp_path / "m", steps=5), picture(tmp_path / "disc.png")
    stage = TASKS.get("segmentation").stages(StageRequest(model, [image]))[0].open()
    assert steps_of(stage, 0.5) == scaled_steps(model.model, 0.5) == (3,)


def test_where_an_automaton_stops_is_the_last_frame(tmp_path: Path) -> None:
    """Of 401 states 240 are chosen before it is known where it stops."""
    chosen = {round(place) for place in np.linspace(0, 400, 240).tolist()}
    image, ends = picture(tmp_path / "disc.png"), set()
    for least in (21, 22):
        stop = StopSettings(tolerance=1e9, least=least)
        model = segmenting(tmp_path / f"m{least}", steps=400, stop=stop)
        made = animate.run(request(model, tmp_path / str(least), image))[0]
        assert made.frames == len({n for n in chosen if n < least} | {least})
        ends.add(least in chosen)
    assert ends == {True, False}


def test_channels_steps_and_levels_are_chosen(tmp_path: Path) -> None:
    model, image = segmenting(tmp_path / "m", scales=(4, 1)), picture(tmp_path / "disc.png")
    plain = animate.run(request(model, tmp_path / "a", image, level=2, steps=0.5))[0]
    assert plain.frames == 3 + 1
    wide = animate.run(request(model, tmp_path / "b", image, channels=("labels", "hidden")))[0]
    assert wide.size[0] > 0
    assert wide.size[1] > plain.size[1], "four panels stand in two rows"
    for wrong, match in ((("7",), "0 to 2"), (("lables",), "labels"), ((), "1 to 64")):
        with pytest.raises(ConfigError, match=match):
            animate.run(request(model, tmp_path / "c", image, channels=wrong))
    with pytest.raises(ConfigError, match="levels 1 to 2"):
        animate.run(request(model, tmp_path / "c", image, level=3))
    with pytest.raises(ConfigError, match="two axes"):
        animate.run(request(model, tmp_path / "c", image, axis=1))
    assert not (tmp_path / "c").exists()


def test_a_channel_has_one_colour_scale_for_all_steps() -> None:
    """Blue below zero, dark at zero, orange above, and half of the way at one."""
    zero, half, low = signed(np.array([[0.0, 1.0, -1.0]]))[0]
    assert zero.max() < 0.1
    np.testing.assert_allclose(half, (zero + np.array([1.0, 0.69, 0.0])) / 2, atol=1e-6)
    assert low[2] > low[0]


def test_of_a_volume_the_slice_with_most_of_the_label_is_shown(tmp_path: Path) -> None:
    model, image = segmenting(tmp_path / "m", dims=3), volume(tmp_path / "ball.nii.gz")
    made = animate.run(request(model, tmp_path / "a", image))[0]
    assert made.plane is not None
    assert made.plane[1] in (9, 10), "through the middle of the ball"
    there = animate.run(request(model, tmp_path / "b", image, axis=1, slice=3))[0]
    assert there.plane == (1, 3)
    assert orange(film(made.path)[-1], slice(340, None)) > 4 * orange(
        film(there.path)[-1], slice(340, None)
    )
    with pytest.raises(ConfigError, match="0 to 19"):
        animate.run(request(model, tmp_path / "c", image, slice=20))


def test_a_large_image_is_made_smaller_and_that_is_said(tmp_path: Path) -> None:
    model, image = segmenting(tmp_path / "m"), picture(tmp_path / "disc.png")
    stage = TASKS.get("segmentation").stages(StageRequest(model, [image], 500))[0].open()
    assert stage.image is not None
    assert stage.image.shape == (1, 20, 20)
    assert "40 x 40" in stage.notes[0]


@pytest.mark.parametrize("make", [regressing, classifying])
def test_values_and_votes_take_shape(tmp_path: Path, make: Any) -> None:
    made = animate.run(
        request(make(tmp_path / "m"), tmp_path / "out", picture(tmp_path / "disc.png"))
    )[0]
    frames = film(made.path)
    assert len(frames) == 7
    inside, outside = (
        (24 + 160, 340 + 160), (24 + 10, 340 + 10)
    )  # fmt: skip
    assert np.abs(frames[0][inside] - frames[-1][inside]).max() > 40
    assert np.abs(frames[-1][inside] - frames[-1][outside]).max() > 60
    if make is classifying:
        assert made.readings["dark"] > 0.5, "most cells are dark"


def test_a_growth_needs_no_input(tmp_path: Path) -> None:
    made = animate.run(
        request(model_of(tmp_path / "m"), tmp_path / "out", channels=("labels", "3"))
    )
    assert made[0].name == "emblem"
    assert made[0].frames == 5
    assert set(made[0].readings) <= {"loss", "Dice"}
    assert made[0].source is None


def test_a_network_that_is_no_automaton_is_refused_by_its_name(tmp_path: Path) -> None:
    settings = GenericModelSettings(name="unet", dims=2, in_channels=1, out_channels=2)
    network = build_model(settings)
    save_bundle(
        tmp_path / "m", network,
        ModelSpec(name="mine", model=settings, labels=LABELS, plan=plan(2)),
    )  # fmt: skip
    image = picture(tmp_path / "disc.png")
    args = ["animate", "--model", str(tmp_path / "m"), "--out", str(tmp_path / "o"), str(image)]
    done = CliRunner().invoke(cli, args)
    assert done.exit_code == 2
    assert "'unet'" in done.output
    assert "nothing moves" in done.output
    assert not (tmp_path / "o").exists()


def test_an_input_is_not_overwritten_and_a_broken_film_leaves_nothing(tmp_path: Path) -> None:
    model = segmenting(tmp_path / "m")
    image = picture(tmp_path / "disc.gif")
    with pytest.raises(OutputError, match="would be overwritten"):
        animate.run(request(model, tmp_path, image))
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no picture")
    with pytest.raises(Exception, match=r"bad\.png"):
        animate.run(request(model, tmp_path / "out", bad))
    assert not list(tmp_path.glob("out/*"))


def test_without_ffmpeg_mp4_is_refused_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    model, image = segmenting(tmp_path / "m"), picture(tmp_path / "disc.png")
    with pytest.raises(DependencyError, match="ffmpeg") as caught:
        animate.run(request(model, tmp_path / "out", image, format="mp4"))
    assert "gif" in str(caught.value.hint)


@pytest.mark.peer
def test_an_mp4_has_every_frame(tmp_path: Path) -> None:
    if shutil.which("ffprobe") is None:
        pytest.skip("ffmpeg is not installed: apt-get install ffmpeg")
    model, image = segmenting(tmp_path / "m"), picture(tmp_path / "disc.png")
    made = animate.run(request(model, tmp_path / "out", image, format="mp4", fps=10))[0]
    asked = ["ffprobe", "-v", "error", "-count_frames", "-of", "json", "-show_streams"]
    told = json.loads(subprocess.run([*asked, made.path], capture_output=True, check=True).stdout)
    stream = told["streams"][0]
    assert (stream["width"], stream["height"]) == made.size
    assert int(stream["nb_read_frames"]) == made.frames == 7
    again = replace(request(model, tmp_path / "again", image, format="mp4", fps=10))
    assert animate.run(again)[0].path.read_bytes() == made.path.read_bytes()


def test_frames_are_drawn_as_they_come(tmp_path: Path) -> None:
    """The second frame is asked for only when the first has been taken."""
    drawn: list[int] = []

    def frames() -> Any:
        for number in range(3):
            drawn.append(number)
            yield Image.new("RGB", (8, 8), (number * 80, 0, 0))

    seen: list[int] = []

    def taking(source: Any) -> Any:
        for frame in source:
            seen.append(len(drawn))
            yield frame

    assert FORMATS["gif"](taking(frames()), tmp_path / "a.gif", 10.0, ()) == 3
    assert seen == [1, 2, 3]


def test_the_command_says_what_it_made(tmp_path: Path) -> None:
    segmenting(tmp_path / "m")
    image = picture(tmp_path / "disc.png")
    where: Sequence[str] = ("--model", str(tmp_path / "m"), "--out", str(tmp_path / "o"))
    done = CliRunner().invoke(cli, ["-q", "animate", *where, "--json", "--fps", "5", str(image)])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told[0]["path"] == str(tmp_path / "o" / "disc.gif")
    with Image.open(told[0]["path"]) as gif:
        assert gif.info["duration"] == 200
    wrong = CliRunner().invoke(cli, ["animate", *where, "--level", "zero", str(image)])
    assert wrong.exit_code == 2
