"""The HTML report: whole, self-contained, and safe whatever the data are called."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from medseg_nca.errors import OutputError
from medseg_nca.viz.report import Items, Picture, Preformatted, Section, Table, Text, write_report

EVIL = '<script>alert("x")</script>&'
VOID = {"meta", "img", "br"}


class Checker(HTMLParser):
    """Collects tags and sources, and sees that every tag is closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.links += [value or "" for name, value in attrs if name in {"src", "href"}]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture(name="page")
def page_fixture(tmp_path: Path) -> str:
    picture = tmp_path / "p.png"
    Image.new("RGB", (4, 4)).save(picture)
    blocks = [
        Text(EVIL, "note"), Items([EVIL]), Preformatted(EVIL, EVIL), Picture(picture, EVIL),
        Table([EVIL, "b"], [[EVIL, EVIL]], EVIL), Table(["a"], [["x"]], EVIL, closed=True),
    ]  # fmt: skip
    path = write_report(
        tmp_path / "report.html", EVIL, [Section(EVIL, blocks)], subtitle=EVIL,
        highlights={EVIL: EVIL}, footer=EVIL,
    )  # fmt: skip
    return path.read_text(encoding="utf-8")


def test_everything_from_outside_is_escaped(page: str) -> None:
    assert "<script" not in page
    assert page.count("&lt;script&gt;") == 18


def test_tags_are_closed_in_order(page: str) -> None:
    checker = Checker()
    checker.feed(page)
    assert not checker.open
    assert {"table", "figure", "details", "pre", "ul"} <= set(checker.seen)


def test_nothing_is_fetched(page: str) -> None:
    checker = Checker()
    checker.feed(page)
    assert all(link.startswith("data:image/png;base64,") for link in checker.links)
    assert not re.search(r"https?://|url\(|@import", page)


def test_missing_picture_is_named(tmp_path: Path) -> None:
    section = Section("x", [Picture(tmp_path / "gone.png", "")])
    with pytest.raises(OutputError, match=r"gone\.png"):
        write_report(tmp_path / "r.html", "x", [section])
    assert not (tmp_path / "r.html").exists()
