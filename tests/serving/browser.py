"""A headless Chromium on the page, and what is asked of every page it shows."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image

SWITCHES = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--use-gl=angle", "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
)  # fmt: skip
# Milliseconds; shaders are compiled by the processor here.
PATIENCE = 180_000


@dataclass
class Visit:
    """A page that is open, and what it did.

    Attributes:
        page: of Playwright.
        errors: that the console showed.
        hosts: that it asked.
    """

    page: Any
    errors: list[str] = field(default_factory=list)
    hosts: set[str] = field(default_factory=set)

    def check(self, url: str) -> None:
        """It logged no error and asked nobody but its server."""
        assert not self.errors
        assert self.hosts <= {urlsplit(url).netloc}

    def orange(self, place: str) -> int:
        """How many pixels of an element have about the colour of the first label, or a shade."""
        picture = Image.open(io.BytesIO(self.page.locator(place).screenshot())).convert("RGB")
        red, green, blue = np.asarray(picture).astype(int).transpose(2, 0, 1)
        return int(((red - blue > 60) & (red > green + 15) & (green > blue + 15)).sum())


def chromium() -> str:
    """The browser's path; the test is skipped where there is none."""
    pytest.importorskip(
        "playwright", reason="playwright is not installed: pip install 'medseg-nca[peers]'"
    )
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip("chromium is not installed: apt-get install chromium")
    return path


@contextmanager
def browser() -> Iterator[Any]:
    """Chromium, with WebGL drawn by the processor."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        found = play.chromium.launch(executable_path=chromium(), args=list(SWITCHES))
        try:
            yield found
        finally:
            found.close()


@contextmanager
def visit(found: Any, url: str, **how: Any) -> Iterator[Visit]:
    """Open the page in a window of its own."""
    options = {"viewport": {"width": 1400, "height": 1000}, "locale": "en-GB", **how}
    context = found.new_context(**options)
    context.set_default_timeout(PATIENCE)
    visit = Visit(context.new_page())
    visit.page.on("console", lambda said: _note(visit, said))
    visit.page.on("pageerror", lambda error: visit.errors.append(str(error)))
    visit.page.on("request", lambda request: _ask(visit, request.url))
    visit.page.goto(url)
    visit.page.wait_for_selector(":is(#work, #sign-in):not([hidden])")
    try:
        yield visit
    finally:
        context.close()


def _note(visit: Visit, said: Any) -> None:
    if said.type == "error":
        visit.errors.append(said.text)


def _ask(visit: Visit, url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme not in ("data", "blob"):
        visit.hosts.add(parts.netloc)


# Contrast as WCAG 2.2 defines it, of every text against the colours behind it.
CONTRAST = """() => {
  const parse = (text) => {
    const [red, green, blue, alpha = 1] = text.match(/[\\d.]+/g).map(Number);
    return { rgb: [red, green, blue], alpha };
  };
  const light = (rgb) => {
    const [r, g, b] = rgb.map((value) => value / 255).map((v) =>
      v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    for (let one = element; one; one = one.parentElement) {
      const { rgb, alpha } = parse(getComputedStyle(one).backgroundColor);
      if (alpha === 1) return rgb;
    }
    return [255, 255, 255];
  };
  const weak = [];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const element = walk.currentNode.parentElement;
    const hidden = !element.checkVisibility({ visibilityProperty: true }) ||
      element.closest(".visually-hidden, :disabled");
    if (hidden || !walk.currentNode.data.trim() || element.tagName === "OPTION") continue;
    const one = light(parse(getComputedStyle(element).color).rgb);
    const other = light(behind(element));
    const contrast = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    if (contrast < 4.5) weak.push(`${walk.currentNode.data.trim()} ${contrast.toFixed(2)}`);
  }
  return weak;
}"""

# Names of all that can be used, and labels of all that can be filled in.
NAMELESS = """() => [...document.querySelectorAll(
  "button, a, input, select, canvas, progress, summary"
)].filter((element) => {
  if (element.ariaLabel?.trim() || element.labels?.[0]?.textContent.trim()) return false;
  const by = element.getAttribute("aria-labelledby");
  if (by && document.getElementById(by)?.textContent.trim()) return false;
  return !(["BUTTON", "A", "SUMMARY"].includes(element.tagName) && element.textContent.trim());
}).map((element) => element.outerHTML)"""
