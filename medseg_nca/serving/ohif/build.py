"""The files of an OHIF build; no name of a request becomes a path."""

from __future__ import annotations

import base64
import gzip
import hashlib
import os
import re
import threading
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from medseg_nca.errors import ConfigError

ROOT = "/ohif/"
START, SETTINGS = "index.html", "app-config.js"
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".wasm": "application/wasm",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".ico": "image/x-icon",
    ".woff2": "font/woff2",
    ".txt": "text/plain; charset=utf-8",
}
_PACKED = (".html", ".css", ".js", ".json", ".wasm", ".svg", ".txt")
_INLINE = re.compile(rb"<script(?![^>]*\ssrc=)[^>]*>(.*?)</script>", re.DOTALL)
_HINT = (
    "The wheel of monailabel holds a build with the MONAI Label panel: pip download --no-deps "
    "monailabel==0.8.5, unzip it, and name monailabel/endpoints/static/ohif."
)


@dataclass(frozen=True)
class BuildFile:
    """One file of a build.

    Attributes:
        content: of it.
        type: of the content.
        tag: changes with the content.
        packed: whether the content is compressed with gzip.
    """

    content: bytes
    type: str
    tag: str
    packed: bool


class OhifBuild:
    """A folder with a build of OHIF that was made for the address ``/ohif/``.

    What it holds is listed once; each file is read when it is first asked for, packed, and kept.

    Args:
        folder: of the build.

    Raises:
        ConfigError: if it is no such build.
    """

    def __init__(self, folder: Path) -> None:
        start = folder / START
        if not start.is_file():
            raise ConfigError(f"--ohif {folder}: has no {START}.", hint=_HINT)
        page = start.read_bytes()
        if f'"{ROOT}'.encode() not in page:
            raise ConfigError(
                f"--ohif {folder}: was not built for the address {ROOT}.",
                hint=f"Build OHIF with PUBLIC_URL={ROOT}. {_HINT}",
            )
        self._paths = dict(_below(folder))
        self._files: dict[str, BuildFile] = {}
        self._lock = threading.Lock()
        self.policy = _policy(page)

    def find(self, name: str) -> BuildFile | None:
        """A file by its place in the build.

        Args:
            name: for example "assets/logo.svg". A place of the viewer, such as "viewer", is none
                of a file and gives the page that all begins with.

        Returns:
            None if there is no such file.
        """
        if name not in self._paths and not Path(name).suffix:
            name = START
        with self._lock:
            if name not in self._files and name in self._paths:
                self._files[name] = _read(name, self._paths[name])
            return self._files.get(name)


def _below(folder: Path) -> list[tuple[str, Path]]:
    """Files of known types by their place; links that lead elsewhere are left out."""
    real = folder.resolve()
    found = []
    for parent, _, names in os.walk(real):
        for name in names:
            path = Path(parent, name)
            if path.suffix in _TYPES and path.resolve().is_relative_to(real):
                found.append((path.relative_to(real).as_posix(), path))
    return found


def _read(name: str, path: Path) -> BuildFile:
    content = path.read_bytes()
    if name == SETTINGS:
        content = (files(__package__) / SETTINGS).read_bytes()
    tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    packed = path.suffix in _PACKED
    if packed:
        content = gzip.compress(content, 6, mtime=0)
    return BuildFile(content, _TYPES[path.suffix], tag, packed)


def _policy(page: bytes) -> str:
    """What the viewer may load: of this server alone; of scripts in its page just those there are.

    It compiles WebAssembly, decodes images in workers, and writes styles as it goes.
    """
    hashes = (
        base64.b64encode(hashlib.sha256(script).digest()).decode()
        for script in _INLINE.findall(page)
    )
    scripts = " ".join(f"'sha256-{value}'" for value in hashes)
    return "; ".join(
        (
            "default-src 'none'", f"script-src 'self' 'wasm-unsafe-eval' {scripts}",
            "style-src 'self' 'unsafe-inline'", "img-src 'self' data: blob:",
            "font-src 'self' data:", "connect-src 'self' blob: data:", "worker-src 'self' blob:",
            "manifest-src 'self'",
            "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'",
        )
    )  # fmt: skip
