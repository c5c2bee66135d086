"""The files of the page, as they lie in the package; no name of a request becomes a path."""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}
START = "index.html"


@dataclass(frozen=True)
class PageFile:
    """One file of the page.

    Attributes:
        content: of it.
        packed: the same, with gzip.
        type: of the content.
        tag: changes with the content.
    """

    content: bytes
    packed: bytes
    type: str
    tag: str


@cache
def page_file(name: str, package: str = __package__ or "") -> PageFile | None:
    """A file by its place below the page's folder, for example "js/main.js".

    Args:
        name: its place.
        package: whose folder "static" holds the page.

    Returns:
        None if the page has no such file.
    """
    found = _tree(package).get(name)
    if found is None:
        return None
    content = found.read_bytes()
    tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    return PageFile(content, gzip.compress(content, 6, mtime=0), _type(name), tag)


@cache
def _tree(package: str) -> dict[str, Traversable]:
    return dict(_below(files(package) / "static", ""))


def _below(folder: Traversable, before: str) -> list[tuple[str, Traversable]]:
    found = []
    for item in folder.iterdir():
        name = f"{before}{item.name}"
        if item.is_dir():
            found += _below(item, f"{name}/")
        elif _type(name):
            found.append((name, item))
    return found


def _type(name: str) -> str:
    return _TYPES.get(name[name.rfind(".") :], "")
