"""Figures: that they are drawn for every kind of input, and show what they should."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from skimage.color import deltaE_ciede2000, rgb2lab

from medseg_nca.config import LabelTable
from medseg_nca.errors import OutputError
from medseg_nca.viz.animation import write_gif
from medseg_nca.viz.boxes import plot_boxes
from medseg_nca.viz.canvas import headline, new_figure, vivid
from medseg_nca.viz.curves import plot_history
from medseg_nca.viz.differences import Paired, plot_differences
from medseg_nca.viz.overlay import plot_case
from medseg_nca.viz.slices import Plane, centre_planes, fullest_plane, to_picture, window_around


def table(*names: str) -> LabelTable:
    labels = [{"name": name, "values": [n + 1]} for n, name in enumerate(names)]
    return LabelTable.model_validate({"labels": labels})


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        picture.verify()
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"), dtype=float) / 255


def has_colour(picture: np.ndarray, colour: str) -> bool:
    wanted = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return bool((np.abs(picture - wanted).max(axis=-1) < 0.06).any())


ORANGE, BLUE, BEST = "#E69F00", "#56B4E9", "#D55E00"
SOLID = np.zeros((12, 10, 8), dtype=int)
SOLID[3:7, 3:7, 3:6], SOLID[7:10, 3:7, 3:6] = 1, 2


@pytest.mark.parametrize(("channels", "dims"), [(1, 3), (2, 3), (1, 2), (3, 2)])
def test_overlay(tmp_path: Path, channels: int, dims: int) -> None:
    truth = SOLID if dims == 3 else SOLID[:, :, 4]
    image = np.random.default_rng(0).normal(size=(channels, *truth.shape))
    path = plot_case(image, truth, np.roll(truth, 1, 0), table("a", "b"), tmp_path / "x" / "c.png",
                     "case_1 $x_1$")  # fmt: skip
    picture = pixels(path)
    assert has_colour(picture, ORANGE)
    assert has_colour(picture, BLUE)
    assert [p.name for p in path.parent.iterdir()] == ["c.png"]


def test_single_label_tells_truth_from_prediction_by_colour(tmp_path: Path) -> None:
    truth = (SOLID[:, :, 4] > 0).astype(int)
    image, nothing = np.zeros((1, *truth.shape)), np.zeros_like(truth)
    drawn = {
        word: pixels(plot_case(image, true, found, table("a"), tmp_path / f"{word}.png"))
        for word, true, found in (("truth", truth, nothing), ("prediction", nothing, truth))
    }
    # The legend has both colours; the picture only that of the one that is there.
    inside = {word: picture[: picture.shape[0] * 4 // 5] for word, picture in drawn.items()}
    assert has_colour(inside["truth"], ORANGE)
    assert not has_colour(inside["truth"], BLUE)
    assert has_colour(inside["prediction"], BLUE)
    assert not has_colour(inside["prediction"], ORANGE)


@pytest.mark.parametrize("shape", [(6, 5, 1), (1, 7, 9), (9, 4)])
def test_overlay_of_nothing_on_a_constant_image(tmp_path: Path, shape: tuple[int, ...]) -> None:
    empty = np.zeros(shape, dtype=int)
    plot_case(np.ones((1, *shape)), empty, empty, table("a"), tmp_path / "c.png",
              spacing=(1.0, 3.0, 0.5)[: len(shape)], anatomical=len(shape) == 3)  # fmt: skip
    assert (tmp_path / "c.png").stat().st_size > 0


def test_overlay_looks_up_source_numbers(tmp_path: Path) -> None:
    """Truth with the source's numbers, prediction with those that are written."""
    labels = LabelTable.model_validate({"labels": [{"name": "a", "values": [255], "write": 1}]})
    truth = np.zeros((20, 20), dtype=int)
    truth[5:12, 5:12] = 255
    path = plot_case(np.zeros((1, 20, 20)), truth, truth // 255, labels, tmp_path / "c.png")
    picture = pixels(path)[: pixels(path).shape[0] * 4 // 5]
    assert has_colour(picture, ORANGE)
    assert has_colour(picture, BLUE)


def test_planes_meet_a_bent_mask() -> None:
    """The centre of mass of a ring lies outside it; the slices do not."""
    mask = np.zeros((9, 9, 9), dtype=bool)
    mask[1:8, 1:8, 4] = True
    mask[3:6, 3:6, 4] = False
    planes = centre_planes(mask)
    assert [plane.axis for plane in planes] == [2, 1, 0]
    assert all(plane.of(mask).any() for plane in planes)
    assert mask[planes[2].index, planes[1].index, planes[0].index]


def test_fullest_plane() -> None:
    mask = np.zeros((5, 6, 7), dtype=bool)
    mask[2, 1:5, 1:6] = True
    assert fullest_plane(mask) == Plane(0, 2, 3)
    assert fullest_plane(np.zeros((5, 6, 7), dtype=bool)) == Plane(2, 3, 3)


def test_slice_of_channels() -> None:
    array = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    assert (Plane(1, 2, 3).of(array) == array[:, :, 2]).all()
    assert Plane(1, 2, 3).axes == (0, 2)


def test_window_keeps_the_mask_and_stays_inside() -> None:
    mask = np.zeros((100, 50), dtype=bool)
    mask[40:60, 0:10] = True
    across, up = window_around(mask, margin=0.5, smallest=8)
    assert (across, up) == (slice(30, 70), slice(0, 20))
    assert window_around(np.zeros((7, 9), dtype=bool)) == (slice(0, 7), slice(0, 9))


def test_picture_is_grey_between_percentiles_or_coloured() -> None:
    ramp = np.linspace(-50, 150, 400).reshape(1, 20, 20)
    picture = to_picture(ramp, Plane(None, 0, 2))
    assert picture.shape == (20, 20)
    assert (picture.min(), picture.max()) == (0, 1)
    assert to_picture(np.zeros((3, 20, 20)), Plane(None, 0, 2)).shape == (20, 20, 3)
    assert np.isfinite(to_picture(np.full((1, 4, 4), np.nan), Plane(None, 0, 2))).all()


HISTORY: list[dict[str, Any]] = [
    {"iteration": n, "wall_s": 1.0, "lr": 1e-3, "loss": 1.0 / n, "loss_level_0": 2.0 / n}
    for n in range(1, 60)
]
HISTORY[30] |= {"val_dice": 0.5, "val_dice_a": 0.4, "val_hd95": 3.0}


def curves(
    folder: Path, rows: Sequence[dict[str, Any]], best: int | None = HISTORY[30]["iteration"]
) -> np.ndarray:
    return pixels(plot_history(rows, folder / "curves.png", best=best))


def test_curves_of_text_are_those_of_numbers(tmp_path: Path) -> None:
    """A CSV reader gives text, and "" where there is no value."""
    names = dict.fromkeys(name for row in HISTORY for name in row)
    text = [{name: str(row.get(name, "")) for name in names} for row in HISTORY]
    numbers = curves(tmp_path, HISTORY)
    assert np.array_equal(curves(tmp_path, text), numbers)
    assert has_colour(numbers, BEST)
    for unknown in (None, 2):
        assert not has_colour(curves(tmp_path, HISTORY, unknown), BEST)


@pytest.mark.parametrize(
    ("rows", "panels"),
    [
        (HISTORY, 4),  # loss, Dice, distance and rate
        (HISTORY[:30], 2),  # loss and rate
        ([{"iteration": 1, "loss": 2}], 1),
    ],
)
def test_a_panel_for_each_kind_of_curve(
    tmp_path: Path, rows: Sequence[dict[str, Any]], panels: int
) -> None:
    narrow = curves(tmp_path, []).shape[1]
    assert curves(tmp_path, rows).shape[1] == pytest.approx(panels * narrow, rel=0.02)


def test_nothing_to_draw_is_said(tmp_path: Path) -> None:
    nothing = curves(tmp_path, [])
    assert np.ptp(nothing) > 0.1  # words
    assert np.array_equal(curves(tmp_path, [{"iteration": 1, "loss": float("nan")}]), nothing)
    assert not np.array_equal(curves(tmp_path, HISTORY[:1])[:, : nothing.shape[1]], nothing)


def test_boxes(tmp_path: Path) -> None:
    panels = {
        "Dice": {"a": [0.5, 0.9, None], "b": [None], "merged": [1.0]},
        "HD95 (mm)": {f"a long name {n}": [float(n)] for n in range(6)},
    }
    assert has_colour(pixels(plot_boxes(panels, tmp_path / "boxes.png")), ORANGE)


def test_differences(tmp_path: Path) -> None:
    rows = {"a": Paired([0.1, -0.1, 0.3], 0.1, (-0.05, 0.25)), "mean": Paired([0.2], 0.2, None)}
    path = plot_differences(rows, tmp_path / "d.png", heading="Dice, B − A", better="(right)")
    assert has_colour(pixels(path), ORANGE)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("multi_label", [False, True])
def test_gif(tmp_path: Path, dims: int, multi_label: bool) -> None:
    shape = (12, 10, 8)[:dims]
    labels = table("a", "b").model_copy(update={"multi_label": multi_label})
    probabilities = np.zeros((7, labels.channels, *shape), dtype=np.float32)
    # Nothing at first, then the last channel everywhere.
    probabilities[3:, -1] = 1.0
    path = write_gif(np.zeros((1, *shape)), probabilities, labels, tmp_path / "a.gif", max_frames=5)
    with Image.open(path) as film:
        assert film.n_frames == 5  # type: ignore[attr-defined]
        assert film.info["loop"] == 0
        first = np.asarray(film.convert("RGB"), dtype=int)
        film.seek(4)
        last = np.asarray(film.convert("RGB"), dtype=int)
    height, width = first.shape[0] - 60, first.shape[1]
    # The image on the left stays black, the automaton on the right turns to the colour of b.
    assert (first[:height] == last[:height])[:, : width // 2 - 60].all()
    middle = last[height // 2, width // 2 + 40]
    assert np.abs(middle - rgb(vivid(1))).max() < 40


def growing(count: int) -> tuple[np.ndarray, np.ndarray]:
    """A noisy image and ``count`` labels in stripes that become certain in six steps."""
    image = np.random.default_rng(0).random((1, 10 * count, 30)).astype(np.float32)
    stripes = np.zeros((count + 1, 10 * count, 30), np.float32)
    for number in range(count):
        stripes[number + 1, 10 * number : 10 * number + 10, 8:22] = 1
    probabilities = np.stack([stripes * share for share in np.linspace(0, 1, 6)])
    return image, probabilities


def rgb(colour: str) -> np.ndarray:
    return np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])


@pytest.mark.parametrize("count", [1, 3, 7])
def test_the_legend_of_a_gif_has_the_colours_of_the_labels(tmp_path: Path, count: int) -> None:
    """To the last bit and in every frame, however few pixels they are among all others."""
    image, probabilities = growing(count)
    labels = table(*"abcdefg"[:count])
    path = write_gif(image, probabilities, labels, tmp_path / "a.gif")
    with Image.open(path) as film:
        for frame in range(film.n_frames):  # type: ignore[attr-defined]
            film.seek(frame)
            legend = np.asarray(film.convert("RGB"), dtype=int)[-46:]
            sizes = [int((legend == rgb(vivid(n))).all(-1).sum()) for n in range(7)]
            assert sizes == [11 * 11] * count + [0] * (7 - count)


def test_labels_in_a_gif_look_like_their_legend(tmp_path: Path) -> None:
    image, probabilities = growing(7)
    path = write_gif(image, probabilities, table(*"abcdefg"), tmp_path / "a.gif")
    with Image.open(path) as film:
        film.seek(film.n_frames - 1)  # type: ignore[attr-defined]
        last = np.asarray(film.convert("RGB"), dtype=int)
    right = last[:-46, last.shape[1] // 2 + 8 :]
    legend = np.stack([rgb(vivid(n)) for n in range(7)])
    across = np.linspace(0, right.shape[1], 15).astype(int)[1::2]
    for number, x in enumerate(across):  # the middle of each stripe
        pixel = right[right.shape[0] // 2, x]
        away = np.abs(legend - pixel).sum(1)
        assert away.argmin() == number
        assert away[number] < 60


# Machado, Oliveira and Fernandes (2009), for linear RGB: no red, green or blue cones.
BLIND = {
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
               [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
               [-0.011820, 0.042940, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602],
               [0.004733, 0.691367, 0.303900]],
    "all cones": np.eye(3).tolist(),
}  # fmt: skip


@pytest.mark.parametrize("kind", BLIND)
def test_colours_of_labels_differ_for_everyone(kind: str) -> None:
    colours = np.stack([rgb(vivid(n)) for n in range(7)]) / 255
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ np.array(BLIND[kind]).T, 0, 1)
    lab = rgb2lab(np.where(seen <= 0.0031308, seen * 12.92, 1.055 * seen ** (1 / 2.4) - 0.055))
    differ = deltaE_ciede2000(lab[:, None], lab[None]) + 99 * np.eye(7)
    assert differ[:3, :3].min() > 24
    assert differ.min() > 10


def test_gif_needs_a_caption_for_each_step(tmp_path: Path) -> None:
    frames = np.zeros((2, 2, 4, 4))
    with pytest.raises(ValueError, match="caption"):
        write_gif(np.zeros((1, 4, 4)), frames, table("a"), tmp_path / "a.gif", captions=["one"])
    with pytest.raises(ValueError, match="step"):
        write_gif(np.zeros((1, 4, 4)), frames[:0], table("a"), tmp_path / "a.gif")


def test_a_long_headline_loses_its_middle() -> None:
    figure = new_figure(4, 3)
    headline(figure, f"{'f' * 80}: worst case, Dice 0.5")
    text = figure.get_suptitle()
    assert len(text) == 36
    assert text.startswith("ff")
    assert text.endswith("worst case, Dice 0.5")


def test_an_unwritable_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="file"):
        plot_boxes({"Dice": {"a": [1.0]}}, tmp_path / "file" / "boxes.png")


def test_pyplot_is_not_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would keep every figure of a long training in memory."""
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    plot_boxes({"Dice": {"a": [1.0, 0.5]}}, tmp_path / "boxes.png")
    plot_history(HISTORY, tmp_path / "curves.png")
    plot_case(np.zeros((1, *SOLID.shape)), SOLID, SOLID, table("a", "b"), tmp_path / "case.png")
