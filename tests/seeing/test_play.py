"""The live page's server: what its sessions do, what their pictures hold, and what is refused."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from click.testing import CliRunner
from fastapi import FastAPI
from PIL import Image

from medseg_nca.cli.main import cli
from medseg_nca.play.app import BODY_BYTES, create_play_app
from medseg_nca.play.messages import Look
from medseg_nca.play.session import PlaySession
from medseg_nca.play.sessions import PlaySessions
from medseg_nca.serving.errors import Refused
from medseg_nca.stages.stage import StageRequest
from medseg_nca.tasks import TASKS
from medseg_nca.viz.tints import label_colours
from tests.seeing.handmade import disc, picture, segmenting, volume
from tests.tasks.generation.growing import model_of

ORANGE = np.array(label_colours(1)[0])


def stages_of(model: Any, *inputs: Path, **how: Any) -> Any:
    return TASKS.get(model.spec.task).stages(StageRequest(model, inputs, **how))


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The disc, its truth and a model that finds it."""
    folder = tmp_path_factory.mktemp("play")
    model, image = segmenting(folder / "m"), picture(folder / "disc.png")
    truth = folder / "truth.png"
    Image.fromarray((disc() > 0).astype(np.uint8)).save(truth)
    return stages_of(model, image, truth=truth)


class Client:
    """Asks the application itself, as its server would."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app

    def ask(self, method: str, path: str, **how: Any) -> httpx.Response:
        async def ask() -> httpx.Response:
            transport, url = httpx.ASGITransport(self._app), "http://127.0.0.1:8030"
            async with httpx.AsyncClient(transport=transport, base_url=url) as client:
                return await client.request(method, path, **how)

        return asyncio.run(ask())

    def get(self, path: str, **how: Any) -> httpx.Response:
        return self.ask("GET", path, **how)

    def post(self, path: str, **how: Any) -> httpx.Response:
        return self.ask("POST", path, **how)


@pytest.fixture
def client(inputs: Any) -> Client:
    return Client(create_play_app(PlaySessions(inputs), "pulling", "segmentation"))


def opened(content: bytes) -> tuple[dict[str, Any], np.ndarray[Any, Any]]:
    """The state and the picture ``(rows, columns, 3)`` of an answer."""
    length = int.from_bytes(content[:4], "little")
    state = json.loads(content[4 : 4 + length])
    pixels = np.frombuffer(content, np.uint8, offset=4 + length)
    whole = pixels.reshape(state["height"], state["width"], 4)
    assert (whole[..., 3] == 255).all()
    return state, whole[..., :3].astype(int)


def look(session: PlaySession, **how: Any) -> tuple[dict[str, Any], np.ndarray[Any, Any]]:
    return opened(session.look(Look(**how)))


def labelled(pixels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return (np.abs(pixels - ORANGE).sum(-1) < 3).T  # rows and columns to (x, y)


def stroke(x: float, y: float, radius: float, kind: str = "erase") -> dict[str, Any]:
    return {"kind": kind, "x": x, "y": y, "radius": radius}


def test_it_grows_is_wounded_under_the_brush_alone_and_heals(inputs: Any) -> None:
    session = PlaySession(inputs[0].open())
    state, pixels = look(session, overlay=False)
    assert not labelled(pixels).any()
    assert state["readings"]["Dice"] == 0
    state, before = look(session, steps=20, overlay=False)
    assert (labelled(before) == (disc() > 0)).all()
    assert state["readings"]["Dice"] == 1
    state, after = look(session, strokes=(stroke(0.5, 0.5, 5),), overlay=False)
    x, y = np.meshgrid(np.arange(40) + 0.5, np.arange(40) + 0.5, indexing="ij")
    under = (x - 20) ** 2 + (y - 20) ** 2 <= 25
    assert (labelled(after) == (labelled(before) & ~under)).all()
    assert state["readings"]["Dice"] < 1
    state, healed = look(session, steps=12, overlay=False)
    assert (labelled(healed) == labelled(before)).all()
    assert state["total"] == 32


def test_without_fire_nothing_moves_and_the_change_is_nothing(inputs: Any) -> None:
    session = PlaySession(inputs[0].open())
    moving, before = look(session, steps=1, view=1)
    still, after = look(session, steps=10, view=1, rate=0.0)
    assert moving["change"] > 0
    assert still["change"] == 0
    assert (before == after).all()
    faster, _ = look(session, steps=1, rate=1.0)
    assert faster["change"] > 0


def test_the_seed_decides_and_reset_begins_anew(inputs: Any) -> None:
    session = PlaySession(inputs[0].open())
    one = look(session, steps=2, seed=1, view=1)[1]
    other = look(session, reset=True, steps=2, seed=2, view=1)[1]
    state, again = look(session, reset=True, steps=2, seed=1, view=1)
    assert (one == again).all()
    assert (one != other).any()
    assert state["step"] == 2


def test_levels_follow_each_other_and_can_be_skipped(tmp_path: Path) -> None:
    model, image = segmenting(tmp_path / "m", scales=(4, 1)), picture(tmp_path / "d.png")
    session = PlaySession(stages_of(model, image)[0].open())
    assert look(session, steps=6)[0]["level"] == 1
    state, pixels = look(session, steps=1)
    assert (state["level"], state["step"]) == (2, 1)
    assert pixels.shape == (40, 40, 3)
    assert look(session, reset=True, next_level=True)[0]["level"] == 2
    assert look(session, next_level=True)[0]["level"] == 2, "it is the last"


def test_a_volume_runs_as_a_whole_and_shows_a_slice(tmp_path: Path) -> None:
    model, image = segmenting(tmp_path / "m", dims=3), volume(tmp_path / "b.nii.gz")
    session = PlaySession(stages_of(model, image)[0].open())
    about = session.about()
    assert about["shape"] == [20, 20, 20]
    middle = look(session, steps=20, axis=2, slice=10, overlay=False)[1]
    edge = look(session, axis=2, slice=4, overlay=False)[1]
    assert labelled(middle).sum() > labelled(edge).sum() > 0
    # The wound is a ball: it is seen in the neighbouring slice, and not far away.
    look(session, strokes=(stroke(0.5, 0.5, 3),), axis=2, slice=10)
    near = look(session, axis=2, slice=9, overlay=False)[1]
    assert labelled(near).sum() < labelled(middle).sum()
    assert (look(session, axis=2, slice=4, overlay=False)[1] == edge).all()
    # The upper edge of the picture of a volume is the end of its second axis.
    look(session, reset=True, steps=20, strokes=(), axis=2, slice=10)
    look(session, strokes=(stroke(0.5, 0.3, 1),), axis=2, slice=10)
    side = labelled(look(session, axis=1, slice=13, overlay=False)[1])
    other = labelled(look(session, axis=1, slice=6, overlay=False)[1])
    assert side.sum() == other.sum() - 1 or side.sum() < other.sum()


def test_a_seed_gives_cells_what_a_growth_begins_with(tmp_path: Path) -> None:
    model = model_of(tmp_path / "m")
    stage = stages_of(model)[0].open()
    session = PlaySession(stage)
    first = stage.start(0, None)
    where = (0, slice(None), *(n // 2 for n in first.shape[2:]))
    assert (stage.seed_values(0) == first[where]).all()
    erased = look(session, strokes=(stroke(0.5, 0.5, 20),), view=3)[1]
    assert len(np.unique(erased.reshape(-1, 3), axis=0)) == 1, "nothing lives"
    seeded = look(session, strokes=(stroke(0.25, 0.55, 0.5, "seed"),), view=3)[1]
    assert (seeded != erased).any(-1).sum() == 1


def test_pages_are_served_and_what_they_may_load_is_said(client: Client) -> None:
    for path in ("/", "/page/js/main.js", "/page/js/board.js", "/page/js/facts.js",
                 "/page/js/dom.js", "/page/js/api.js", "/page/style.css", "/page/play.css",
                 "/page/icon.svg"):  # fmt: skip
        answer = client.get(path)
        assert answer.status_code == 200, path
        assert "script-src 'self'" in answer.headers["content-security-policy"]
        assert answer.headers["x-frame-options"] == "DENY"
    for path in ("/page/js/volume.js", "/page/../app.py", "/docs", "/openapi.json", "/page/"):
        assert client.get(path).status_code == 404, path


def test_a_session_over_http(client: Client) -> None:
    about = client.get("/v1/about").json()
    assert about["inputs"] == ["disc"]
    begun = client.post("/v1/sessions", json={"input": 0})
    assert begun.status_code == 201
    tree = begun.json()
    assert tree["channels"] == ["image 0", "hidden 0", "hidden 1"]
    answer = client.post(f"/v1/sessions/{tree['id']}/look", json={"steps": 6, "view": 2})
    assert answer.headers["content-type"] == "application/octet-stream"
    assert opened(answer.content)[0]["step"] == 6
    assert client.ask("DELETE", f"/v1/sessions/{tree['id']}").status_code == 204
    assert client.post(f"/v1/sessions/{tree['id']}/look", json={}).status_code == 404
    assert client.post("/v1/sessions", json={"input": 1}).status_code == 404


BAD = [
    {"steps": 51}, {"steps": -1}, {"steps": 1.5}, {"steps": "2"}, {"rate": 1.1}, {"rate": -0.1},
    {"seed": -1}, {"seed": 2**40}, {"view": 3}, {"view": -1}, {"view": "x"}, {"slice": -1},
    {"axis": 3}, {"other": 1}, {"strokes": [stroke(0.5, 1.5, 3)]}, {"strokes": 3}, [], 3, None,
    {"strokes": [stroke(0.5, 0.5, 3)] * 65}, {"strokes": [stroke(0.5, 0.5, 1e9)]},
    {"strokes": [{"kind": "burn", "x": 0.5, "y": 0.5, "radius": 1}]},
]  # fmt: skip


@pytest.mark.parametrize("wrong", BAD, ids=str)
def test_what_a_page_would_not_send_is_refused(client: Client, wrong: Any) -> None:
    key = client.post("/v1/sessions", json={}).json()["id"]
    answer = client.post(f"/v1/sessions/{key}/look", json=wrong)
    assert answer.status_code == 422
    assert answer.json()["detail"]
    raw = client.post(f"/v1/sessions/{key}/look", content=b'{"rate": NaN}')
    assert raw.status_code == 422
    assert opened(client.post(f"/v1/sessions/{key}/look", json={}).content)[0]["total"] == 0


def test_other_hosts_other_pages_and_large_bodies_are_refused(client: Client) -> None:
    assert client.get("/", headers={"Host": "evil.example"}).status_code == 421
    assert client.post("/v1/sessions", json={}, headers={"Host": "evil.example"}).status_code == 421
    for headers in ({"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        assert client.post("/v1/sessions", json={}, headers=headers).status_code == 403
    big = client.post("/v1/sessions", content=b" " * (BODY_BYTES + 1))
    assert big.status_code == 413
    assert client.get("/v1/sessions").status_code == 405


def test_sessions_are_few_and_one_that_nobody_looks_at_gives_way(inputs: Any) -> None:
    now = [0.0]
    sessions = PlaySessions(inputs, most=2, clock=lambda: now[0])
    first, second = sessions.begin(0)[0], sessions.begin(0)[0]
    with pytest.raises(Refused, match="2 pages") as caught:
        sessions.begin(0)
    assert caught.value.status == 503
    now[0] = 20.0
    sessions.get(first)
    third = sessions.begin(0)[0]
    with pytest.raises(Refused):
        sessions.get(second)
    assert sessions.get(first) is not sessions.get(third)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--config", "growing_emblem"], "medseg-nca train --config growing_emblem --out"),
        (["--config", "growing_emblm"], "growing_emblem"),
        ([], "one of them"),
        (["--model", "zoo:nuclei"], "nothing to show"),
        (["--model", "zoo:nuclei", "--port", "70000"], "65535"),
    ],
)
def test_the_command_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, args: list[str], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(cli, ["play", *args])
    assert done.exit_code == 2
    assert words in " ".join(done.output.split())
