"""Self-contained HTML reports: one file with its tables and pictures, no script, no network.

Everything that comes from outside (names of cases, labels, files) is escaped.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Protocol

from medseg_nca.errors import OutputError
from medseg_nca.viz.canvas import store
from medseg_nca.viz.report_style import CSS

MEDIA = {".png": "image/png", ".gif": "image/gif"}


class Block(Protocol):
    """A part of a section."""

    def html(self) -> str:
        """The part as HTML, escaped."""


@dataclass(frozen=True)
class Text:
    """A paragraph; ``kind`` "note" sets it apart as a warning."""

    text: str
    kind: str = ""

    def html(self) -> str:
        """See :class:`Block`."""
        return f'<p class="{escape(self.kind)}">{escape(self.text)}</p>'


@dataclass(frozen=True)
class Items:
    """A list of sentences."""

    items: Sequence[str]

    def html(self) -> str:
        """See :class:`Block`."""
        return "<ul>" + "".join(f"<li>{escape(item)}</li>" for item in self.items) + "</ul>"


@dataclass(frozen=True)
class Table:
    """A table whose first column names the row; ``closed`` folds it away under its caption."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""
    closed: bool = False

    def html(self) -> str:
        """See :class:`Block`."""
        head = "".join(f'<th scope="col">{escape(column)}</th>' for column in self.columns)
        body = "".join(f"<tr>{_row(row)}</tr>" for row in self.rows)
        caption = f"<caption>{escape(self.caption)}</caption>" if self.caption else ""
        table = (
            f'<div class="wide"><table>{"" if self.closed else caption}'
            f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
        )
        if not self.closed:
            return table
        return f"<details><summary>{escape(self.caption)}</summary>{table}</details>"


@dataclass(frozen=True)
class Picture:
    """An image file, embedded; PNG or GIF."""

    path: Path
    caption: str

    def html(self) -> str:
        """See :class:`Block`.

        Raises:
            OutputError: if the file cannot be read.
        """
        try:
            content = base64.b64encode(self.path.read_bytes()).decode("ascii")
        except OSError as error:
            raise OutputError(f"{self.path}: cannot be read ({error.strerror}).") from error
        source = f"data:{MEDIA[self.path.suffix]};base64,{content}"
        text = escape(self.caption)
        return f'<figure><img src="{source}" alt="{text}"><figcaption>{text}</figcaption></figure>'


@dataclass(frozen=True)
class Preformatted:
    """Preformatted text, folded away under its caption."""

    text: str
    caption: str

    def html(self) -> str:
        """See :class:`Block`."""
        return (
            f"<details><summary>{escape(self.caption)}</summary>"
            f"<pre>{escape(self.text)}</pre></details>"
        )


@dataclass(frozen=True)
class Section:
    """A heading and what stands below it."""

    title: str
    blocks: Sequence[Block]

    def html(self) -> str:
        """The section as HTML."""
        inner = "".join(block.html() for block in self.blocks)
        return f"<section><h2>{escape(self.title)}</h2>{inner}</section>"


def write_report(
    path: Path,
    title: str,
    sections: Iterable[Section],
    *,
    subtitle: str = "",
    highlights: Mapping[str, str] | None = None,
    footer: str = "",
) -> Path:
    """Write a report.

    Args:
        path: of the HTML file.
        title: heading and name of the browser tab.
        sections: in order.
        subtitle: one line below the title.
        highlights: the few numbers that matter, shown large: caption to value.
        footer: last line.

    Returns:
        ``path``.

    Raises:
        OutputError: if a picture cannot be read or the report cannot be written.
    """
    tiles = "".join(
        f"<div><strong>{escape(value)}</strong><span>{escape(name)}</span></div>"
        for name, value in (highlights or {}).items()
    )
    page = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{escape(title)}</title><style>{CSS}</style></head><body><main>"
        f"<header><h1>{escape(title)}</h1><p>{escape(subtitle)}</p></header>"
        f'<div class="tiles">{tiles}</div>'
        + "".join(section.html() for section in sections)
        + f"<footer>{escape(footer)}</footer></main></body></html>\n"
    )
    return store(page.encode("utf-8"), path)


def _row(cells: Sequence[str]) -> str:
    first, *rest = cells
    return f'<th scope="row">{escape(first)}</th>' + "".join(f"<td>{escape(c)}</td>" for c in rest)
