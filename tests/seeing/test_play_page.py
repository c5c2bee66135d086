"""The live page in a real browser: damage is painted, seen, and heals."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medseg_nca.viz.tints import label_colours
from tests.seeing.handmade import disc, picture, segmenting
from tests.serving.browser import CONTRAST, NAMELESS, Visit, browser, chromium, visit
from tests.serving.running import PATIENCE

pytestmark = [pytest.mark.peer, pytest.mark.slow]
DICE, MOST_MS = "[data-fact=Dice]", 180_000
PIXELS = """() => {
  const board = document.getElementById("board");
  const { data } = board.getContext("2d").getImageData(0, 0, board.width, board.height);
  return [board.width, board.height, ...data];
}"""


@pytest.fixture(scope="module")
def chrome() -> Iterator[Any]:
    chromium()
    with browser() as found:
        yield found


@pytest.fixture(scope="module")
def url(chrome: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The command, on a disc, with a model that provably mends what is erased."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("page")
    segmenting(folder / "model")
    image, truth, said = picture(folder / "disc.png"), folder / "truth.png", folder / "said"
    Image.fromarray((disc() > 0).astype(np.uint8)).save(truth)
    command = [sys.executable, "-m", "medseg_nca", "play", "--model", str(folder / "model"),
               str(image), "--truth", str(truth), "--port", "0", "--device", "cpu"]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    with said.open("w") as out:
        process = subprocess.Popen(command, cwd=folder, stdout=out, text=True, env=environment)
    try:
        end = time.monotonic() + PATIENCE
        while not said.read_text().endswith("\n"):
            assert process.poll() is None, "the command ended"
            assert time.monotonic() < end, "the command did not begin to listen"
            time.sleep(0.1)
        yield said.read_text().split()[-1]
    finally:
        process.terminate()
        process.wait(PATIENCE)


def labelled(opened: Visit) -> np.ndarray[Any, Any]:
    """Where the picture has the colour of the label, ``(rows, columns)``."""
    width, height, *data = opened.page.evaluate(PIXELS)
    pixels = np.array(data, int).reshape(height, width, 4)[..., :3]
    found: np.ndarray[Any, Any] = np.abs(pixels - np.array(label_colours(1)[0])).sum(-1) < 3
    return found


def fact(opened: Visit, name: str) -> str:
    text: str = opened.page.text_content(f"[data-fact={name}]")
    return text


def until(opened: Visit, place: str, text: str, *, differs: bool = False) -> None:
    """Wait until an element has a text; the page's policy forbids what evaluates text as code."""
    from playwright.sync_api import expect

    wanted = expect(opened.page.locator(place))
    (wanted.not_to_have_text if differs else wanted.to_have_text)(text, timeout=MOST_MS)


def slide(opened: Visit, name: str, value: float) -> None:
    """Move a slider, as a hand does: the page hears it."""
    opened.page.eval_on_selector(
        f"#{name}", "(it, value) => { it.value = value; it.dispatchEvent(new Event('input')); }",
        value,
    )  # fmt: skip


def seen(opened: Visit, wanted: np.ndarray[Any, Any]) -> None:
    """Wait until the label is seen there, and nowhere else."""
    end = time.monotonic() + PATIENCE
    while (labelled(opened) != wanted).any():
        assert time.monotonic() < end, "the picture does not come"
        time.sleep(0.1)


def grown(opened: Visit) -> np.ndarray[Any, Any]:
    """Let it grow, pause it, and return what it found."""
    page = opened.page
    page.uncheck("#overlay")
    until(opened, DICE, "1.0000")
    page.keyboard.press("p")
    until(opened, "#ready-text", "Paused")
    seen(opened, disc().T > 0)  # the picture before may be on its way still
    return labelled(opened)


def step(opened: Visit, count: int) -> None:
    for _ in range(count):
        before = fact(opened, "step")
        opened.page.keyboard.press("s")
        until(opened, "[data-fact=step]", before, differs=True)


def test_painted_damage_is_seen_under_the_brush_and_heals(chrome: Any, url: str) -> None:
    with visit(chrome, url) as opened:
        before = grown(opened)
        slide(opened, "radius", 5)
        box = opened.page.locator("#board").bounding_box()
        middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        opened.page.mouse.click(*middle)
        until(opened, DICE, "1.0000", differs=True)
        wounded = labelled(opened)
        y, x = np.mgrid[:40, :40] + 0.5
        far = np.hypot(x - 20, y - 20)
        assert not wounded[far < 4].any(), "what is under the brush is gone"
        assert (wounded == before)[far > 6].all(), "all else stays"
        # A cell mends with its first update; of 20 steps it misses all with 0.5 ** 20.
        step(opened, 20)
        assert (labelled(opened) == before).all()
        assert fact(opened, "Dice") == "1.0000"
        opened.check(url)


def test_without_fire_it_stands_still_and_reset_begins_anew(chrome: Any, url: str) -> None:
    with visit(chrome, url) as opened:
        before = grown(opened)
        slide(opened, "rate", 0)
        assert not opened.page.is_checked("#trained")
        opened.page.locator("#board").click()
        until(opened, DICE, "1.0000", differs=True)
        wounded = labelled(opened)
        step(opened, 3)
        assert (labelled(opened) == wounded).all(), "nothing heals"
        assert fact(opened, "change") == "0.0000"
        opened.page.check("#trained")
        step(opened, 20)
        assert (labelled(opened) == before).all()
        opened.page.click("#reset")
        until(opened, DICE, "0.0000")
        assert not labelled(opened).any()


def test_the_keyboard_paints_and_channels_are_watched(chrome: Any, url: str) -> None:
    with visit(chrome, url, color_scheme="dark") as opened:
        before = grown(opened)
        opened.page.focus("#board")
        opened.page.keyboard.press("Shift+ArrowRight")
        opened.page.keyboard.press("Space")
        until(opened, DICE, "1.0000", differs=True)
        lost = np.argwhere(before & ~labelled(opened))
        assert lost[:, 1].min() >= 25, "ten pixels to the right of the middle"
        opened.page.select_option("#view", "2")
        seen(opened, np.zeros((40, 40), bool))  # a channel has other colours
        assert not opened.page.evaluate(NAMELESS)
        assert not opened.page.evaluate(CONTRAST)
        opened.check(url)


def test_it_reads_in_light_and_on_a_narrow_screen(chrome: Any, url: str) -> None:
    how = {"color_scheme": "light", "viewport": {"width": 390, "height": 844}}
    with visit(chrome, url, **how) as opened:
        opened.page.wait_for_selector("[data-fact=Dice]")
        assert not opened.page.evaluate(CONTRAST)
        wide = "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
        assert opened.page.evaluate(wide)
        opened.check(url)
