"""The real MONAILabelClient against our server, with and without users."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.serving.running import Server, start, volume

pytestmark = [pytest.mark.peer, pytest.mark.slow]
PASSWORD = "correct horse"
PROGRAM = r"""
import json, logging, sys
from monailabel.client import MONAILabelClient
url, folder, token, image = sys.argv[1:]
def client():
    # A new one each time: it reuses stale headers after a POST.
    made = MONAILabelClient(url, tmpdir=folder)
    if token:
        made.update_auth({"token_type": "bearer", "access_token": token})
    return made
said = {}
said["auth"] = client().auth_enabled()
if said["auth"]:
    said["token"] = bool(client().auth_token("ann", "correct horse")["access_token"])
said["valid"] = client().auth_valid_token()
said["info"] = sorted(client().info()["models"])
session = client().create_session(image)["session_id"]
said["session"] = client().get_session(session)["image"]
file, params = client().infer("tiny", "", {"result_extension": ".nrrd"}, session_id=session)
said["names"] = params["label_names"]
file, params = client().infer("tiny", "", {"result_extension": ".nii.gz"}, file=image)
client().remove_session(session)
said["uploaded"] = client().upload_image(image, "new")["image"]
said["next"] = client().next_sample("random", {})["id"]
file, params = client().infer("tiny", "new", {"result_extension": ".nii.gz"})
client().save_label("new", file, "final", {"label_info": []})
said["labels"] = sorted(client().datastore()["objects"]["new"]["labels"])
said["same"] = open(client().download_label("new", "final"), "rb").read() == open(file, "rb").read()
said["done"] = client().next_sample("random", {})
said["training"] = client().train_status(check_if_running=True)
for call in (lambda: client().train_start("tiny", {}), lambda: client().infer("no", "new", {})):
    try:
        call()
    except Exception as error:
        said.setdefault("refused", []).append(str(error.msg)[:80])
print(json.dumps(said))
"""


@pytest.fixture(scope="session")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the client and no more: monailabel itself needs 8 GB."""
    folder = tmp_path_factory.mktemp("monailabel")
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True, timeout=300)
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet"]
    for what in (["--no-deps", "monailabel==0.8.5"], ["requests"]):
        done = subprocess.run([*pip, *what], capture_output=True, text=True, timeout=600)
        if done.returncode:
            pytest.skip(f"monailabel 0.8.5 cannot be installed: {done.stderr.strip()[-200:]}")
    done = subprocess.run(
        [str(folder / "bin" / "python"), "-c", "import cgi"], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip("the client of monailabel 0.8.5 needs the module cgi, which Python 3.13 lacks")
    return folder / "bin" / "python"


def run(python: Path, server: Server, folder: Path) -> dict[str, object]:
    image = folder / "image.nii.gz"
    image.write_bytes(volume())
    command = [str(python), "-W", "ignore", "-c", PROGRAM, server.url, str(folder), server.token]
    done = subprocess.run(
        [*command, str(image)], capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr
    said: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return said


def test_every_method_with_and_without_users(python: Path, tmp_path: Path) -> None:
    from medseg_nca.serving.security.users import UserFile
    from tests.serving.test_login import log_in
    from tests.tracking.tiny import save_tiny

    save_tiny(tmp_path / "tiny")
    users = UserFile(tmp_path / "users.json")
    users.add("ann", PASSWORD, "user")
    for name, options in (("open", ()), ("closed", ("--users", str(users.path)))):
        server = start(tmp_path / name, "--models", str(tmp_path / "tiny"), *options).ready()
        if options:
            server = log_in(server, "ann")
        said = run(python, server, tmp_path / name)
        assert said["auth"] is bool(options)
        assert said["valid"] is True
        assert said["info"] == ["tiny"]
        assert said["session"] == "file_00001.nii.gz"
        assert said["names"] == {"anterior": 1, "post": 2}
        assert (said["uploaded"], said["next"]) == ("new", "new")
        assert said["labels"] == ["final"]
        assert said["same"] is True
        assert said["done"] == {}
        assert said["training"] is False
        refused = said["refused"]
        assert isinstance(refused, list)
        assert "Status: 501" in refused[0]
        assert "Status: 404" in refused[1]
        assert server.stop() == 0
