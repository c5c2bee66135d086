"""The files of a viewer's build: what is handed out of a folder, and under which policy."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from click.testing import CliRunner
from fastapi import FastAPI

from medseg_nca.cli.main import cli
from medseg_nca.errors import ConfigError
from medseg_nca.serving.http import ohif, problems
from medseg_nca.serving.ohif.build import OhifBuild

INLINE = "window.PUBLIC_URL = '/ohif/';"
PAGE = f"""<html><head><script>{INLINE}</script><script defer="defer" src="/ohif/app.js"></script>
<link href="/ohif/app.css" rel="stylesheet"></head><body></body></html>"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "build"
    (made / "assets").mkdir(parents=True)
    (made / "index.html").write_text(PAGE)
    (made / "app.js").write_text("start();" * 1000)
    (made / "app-config.js").write_text("window.config = {of: 'the build'};")
    (made / "assets" / "logo.png").write_bytes(b"png")
    (made / "decoder.wasm").write_bytes(b"wasm")
    (made / "notes.secret").write_text("of the machine")
    (tmp_path / "outside.js").write_text("outside")
    (made / "link.js").symlink_to(tmp_path / "outside.js")
    return made


class Viewer:
    """Asks an application, without a server."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app

    def get(self, path: str, **how: Any) -> httpx.Response:
        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(self._app)
            async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
                return await client.get(path, **how)

        return asyncio.run(ask())


@pytest.fixture
def viewer(folder: Path) -> Viewer:
    app = FastAPI(redirect_slashes=False)
    app.state.running = SimpleNamespace(
        ohif=OhifBuild(folder), settings=SimpleNamespace(state=folder)
    )
    problems.install(app)
    app.include_router(ohif.router)
    return Viewer(app)


def test_places_of_the_viewer_are_its_page(viewer: Viewer) -> None:
    assert viewer.get("/ohif").headers["location"] == "/ohif/"
    for place in ("", "viewer", "monai-label?StudyInstanceUIDs=1.2.3", "viewer/dicomweb"):
        answer = viewer.get(f"/ohif/{place}")
        assert (answer.status_code, answer.text) == (200, PAGE)
        assert answer.headers["content-type"] == "text/html; charset=utf-8"


def test_the_policy_lets_in_what_the_build_has(viewer: Viewer) -> None:
    policy = dict(
        part.split(" ", 1)
        for part in viewer.get("/ohif/").headers["content-security-policy"].split("; ")
    )
    digest = base64.b64encode(hashlib.sha256(INLINE.encode()).digest()).decode()
    assert policy["script-src"] == f"'self' 'wasm-unsafe-eval' 'sha256-{digest}'"
    assert policy["default-src"] == policy["frame-ancestors"] == "'none'"
    assert not [value for value in policy.values() if "http" in value or "*" in value]


def test_types_packing_and_asking_again(viewer: Viewer, folder: Path) -> None:
    for name, kind in (
        ("app.js", "text/javascript; charset=utf-8"),
        ("decoder.wasm", "application/wasm"),
        ("assets/logo.png", "image/png"),
    ):
        answer = viewer.get(f"/ohif/{name}")
        assert answer.headers["content-type"] == kind
        assert answer.content == (folder / name).read_bytes()
    packed = viewer.get("/ohif/app.js", headers={"accept-encoding": "gzip"})
    plain = viewer.get("/ohif/app.js", headers={"accept-encoding": "identity"})
    assert packed.headers["content-encoding"] == "gzip"
    assert int(packed.headers["content-length"]) < 1000
    assert "content-encoding" not in plain.headers
    again = viewer.get("/ohif/app.js", headers={"if-none-match": packed.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_the_settings_are_ours(viewer: Viewer) -> None:
    settings = viewer.get("/ohif/app-config.js").text
    assert "of: 'the build'" not in settings
    assert 'wadoRoot: "/proxy/dicom/wado"' in settings


@pytest.mark.parametrize(
    "name",
    ["notes.secret", "link.js", "../outside.js", "%2e%2e/outside.js", "..%2foutside.js", "no.js",
     "assets", "/etc/passwd"],
)  # fmt: skip
def test_nothing_else_is_handed_out(viewer: Viewer, name: str) -> None:
    answer = viewer.get(f"/ohif/{name}")
    assert answer.status_code == 404 or answer.text == PAGE


def test_a_folder_that_is_no_build_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"has no index\.html"):
        OhifBuild(tmp_path)
    (tmp_path / "index.html").write_text('<script src="/app.js"></script>')
    with pytest.raises(ConfigError, match="not built for the address /ohif/"):
        OhifBuild(tmp_path)


def test_the_viewer_needs_a_dicomweb_server(folder: Path) -> None:
    arguments = ["serve", "--models", "zoo:hippocampus", "--ohif", str(folder)]
    done = CliRunner().invoke(cli, arguments)
    assert done.exit_code == 2
    assert "--studies" in done.output
